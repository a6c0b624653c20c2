//! docs/systemd: the units are sound, and our programs take what they are started with.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::io::Write;
use std::path::Path;

use natsfer_tests::{consumer, our_binary, producer, program};

const UNITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/systemd");
const INSTALLED: &str = "/usr/local/bin/";

fn unit(name: &str) -> String {
    std::fs::read_to_string(Path::new(UNITS).join(format!("{name}.service"))).unwrap()
}

/// A misspelt setting is only warned of, and then does nothing: no word may be said.
#[tokio::test]
async fn systemd_has_nothing_to_say_against_the_units() {
    let version = std::process::Command::new("systemd-analyze").arg("--version").output();
    if let Err(error) = version {
        let _ = writeln!(std::io::stderr(), "units test: no systemd-analyze ({error}): NOT RUN");
        return;
    }
    let home = tempfile::tempdir().unwrap();
    for name in ["natsfer-producer", "natsfer-consumer"] {
        // The program that is started has to be there.
        let binary = tokio::task::spawn_blocking(move || our_binary(name)).await.unwrap().unwrap();
        let here = unit(name).replace(&format!("{INSTALLED}{name}"), binary.to_str().unwrap());
        let path = home.path().join(format!("{name}.service"));
        std::fs::write(&path, here).unwrap();
        let verify = program("systemd-analyze", ["verify", "--man=no"]).arg(&path).run().await.success();
        assert_eq!(verify.text() + &verify.errors(), "", "{name}");
    }
}

/// Wrong arguments come before the help.
#[tokio::test]
async fn the_programs_take_what_the_units_start_them_with() {
    for (name, command) in [("natsfer-producer", producer([""; 0])), ("natsfer-consumer", consumer([""; 0]))] {
        let unit = unit(name);
        let start = unit.lines().find_map(|line| line.strip_prefix(&format!("ExecStart={INSTALLED}{name} "))).unwrap();
        let _ = command.args(start.split(' ')).arg("--help").run().await.success();
    }
}
