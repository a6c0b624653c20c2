//! docker-compose.yml on a real engine: files dropped into one directory appear in the other, whatever befalls the containers.
//! Where no engine answers, each test says so on standard error and has nothing to do.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::jetstream::Context;
use natsfer_tests::docker::{Images, Profile, Project, User};
use natsfer_tests::steps::receipts_in;
use natsfer_tests::{eventually, files};

const SOON: Duration = Duration::from_secs(120);
const MIB: u64 = 1 << 20;

/// Waits until the inbox has what the outbox has, byte for byte, and nothing else; and the server one receipt for each file.
async fn all_arrive(project: &Project, jetstream: &Context) {
    let (outbox, inbox) = (project.outbox(), project.inbox());
    let sent = visible(&outbox);
    eventually(&format!("these arrive: {sent:?}"), SOON, async || (visible(&inbox).len() >= sent.len()).then_some(()))
        .await;
    assert_eq!(visible(&inbox), sent, "one copy of each");
    for name in &sent {
        files::assert_same(outbox.join(name), inbox.join(name));
        assert!(project.user().owns(&inbox.join(name)).unwrap(), "{} is somebody else's", name.display());
    }
    // A receipt is published after the file is there.
    eventually("there is a receipt for each", SOON, async || {
        (receipts_in(jetstream).await.ok()?.len() >= sent.len()).then_some(())
    })
    .await;
    let receipts = receipts_in(jetstream).await.unwrap();
    assert_eq!(receipts.len(), sent.len(), "more receipts than files: {receipts:?}");
}

/// The files below a directory, sorted, without what is hidden.
fn visible(root: &Path) -> Vec<PathBuf> {
    let (mut found, mut pending) = (Vec::new(), vec![root.to_owned()]);
    while let Some(directory) = pending.pop() {
        // Directories come and go while files land.
        for entry in directory.read_dir().into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type() {
                _ if entry.file_name().as_encoded_bytes().starts_with(b".") => {}
                Ok(kind) if kind.is_dir() => pending.push(path),
                _ => found.push(path.strip_prefix(root).unwrap().to_owned()),
            }
        }
    }
    found.sort();
    found
}

/// How many messages a stream has ever taken.
async fn taken(jetstream: &Context, stream: &str) -> u64 {
    jetstream.get_stream(stream).await.unwrap().cached_info().state.last_sequence
}

#[tokio::test]
async fn a_file_dropped_into_one_directory_appears_in_the_other() {
    let Some(project) = Project::start(Profile::Single).await else { return };
    project.drop_in("note.txt", |path| files::text_file(path, 3_000, 1));
    project.drop_in("large.bin", |path| files::random_file(path, 50 * MIB, 2));
    project.drop_in("folder", |path| drop(files::tree(path, 30, 0..200_000, 3)));
    let jetstream = project.jetstream(0).await.unwrap();
    all_arrive(&project, &jetstream).await;

    // A stop is graceful, and nothing is sent twice after it.
    let chunks = taken(&jetstream, "NATSFER_DATA").await;
    let _ = project.compose(&["stop"]).run().await.success();
    for service in ["nats", "producer", "consumer"] {
        let state = &project.inspect(service).await["State"];
        assert_eq!((&state["Running"], &state["ExitCode"]), (&false.into(), &0.into()), "{service}: {state}");
    }
    project.drop_in("while-stopped.txt", |path| files::text_file(path, 3_000, 4));
    project.up().await;
    let jetstream = project.jetstream(0).await.unwrap();
    all_arrive(&project, &jetstream).await;
    assert_eq!(taken(&jetstream, "NATSFER_DATA").await, chunks, "chunks were sent again");

    // Nor is it after everything but the volumes is made anew.
    let _ = project.compose(&["down"]).run().await.success();
    project.up().await;
    project.drop_in("after.txt", |path| files::text_file(path, 3_000, 5));
    let jetstream = project.jetstream(0).await.unwrap();
    all_arrive(&project, &jetstream).await;
    assert_eq!(taken(&jetstream, "NATSFER_DATA").await, chunks, "chunks were sent again");
}

#[tokio::test]
async fn what_crashes_is_started_again_and_nothing_is_lost_or_doubled() {
    let Some(project) = Project::start(Profile::Single).await else { return };
    for (round, service) in ["producer", "consumer", "nats"].into_iter().enumerate() {
        let seed = round as u64 * 10;
        project.drop_in(&format!("before-{service}"), |path| drop(files::tree(path, 10, 0..500_000, seed)));
        project.drop_in(&format!("large-{service}.bin"), |path| files::random_file(path, 30 * MIB, seed + 1));
        project.crash(service).await;
        project.drop_in(&format!("after-{service}"), |path| drop(files::tree(path, 10, 0..500_000, seed + 2)));
        project.healthy(service).await;
    }
    let jetstream = project.jetstream(0).await.unwrap();
    all_arrive(&project, &jetstream).await;

    // What an operator kills stays down until it is started. Without a server nobody is healthy.
    project.kill("nats").await;
    for service in ["producer", "consumer"] {
        project.health(service, "unhealthy").await;
        project.kill(service).await;
    }
    project.drop_in("while-down.bin", |path| files::random_file(path, 2 * MIB, 99));
    project.up().await;
    let jetstream = project.jetstream(0).await.unwrap();
    all_arrive(&project, &jetstream).await;
}

/// Cut off in the middle of a file, each goes on with it when the network is back.
#[tokio::test]
async fn a_container_that_is_cut_off_goes_on_when_it_is_back() {
    let Some(project) = Project::start(Profile::Single).await else { return };
    let jetstream = project.jetstream(0).await.unwrap();
    for service in ["consumer", "producer"] {
        let mut cut = false;
        // A fast machine may have moved all of it before the engine acts.
        for attempt in 0..5_u64 {
            let name = format!("{service}-{attempt}.bin");
            let before = taken(&jetstream, "NATSFER_DATA").await;
            project.drop_in(&name, |path| files::random_file(path, 200 * MIB, attempt));
            eventually("chunks are on their way", SOON, async || {
                (taken(&jetstream, "NATSFER_DATA").await > before + 8).then_some(())
            })
            .await;
            project.disconnect(service).await;
            cut = !project.inbox().join(&name).exists();
            if cut {
                break;
            }
            project.connect(service).await;
        }
        assert!(cut, "{service} was faster each time");
        project.log_line(service, "waiting for").await;
        project.connect(service).await;
    }
    all_arrive(&project, &jetstream).await;
}

#[tokio::test]
async fn three_servers_keep_three_copies_and_one_may_die() {
    let Some(project) = Project::start(Profile::Cluster).await else { return };
    let jetstream = project.jetstream(0).await.unwrap();
    for name in ["NATSFER", "NATSFER_DATA"] {
        let info = jetstream.get_stream(name).await.unwrap().cached_info().clone();
        assert_eq!(info.config.num_replicas, 3, "{name}");
        assert_eq!(info.cluster.unwrap().replicas.len(), 2, "{name}");
    }
    project.drop_in("first", |path| drop(files::tree(path, 10, 0..500_000, 1)));
    all_arrive(&project, &jetstream).await;

    let info = jetstream.get_stream("NATSFER_DATA").await.unwrap().cached_info().clone();
    let leader = info.cluster.unwrap().leader.unwrap();
    project.drop_in("large.bin", |path| files::random_file(path, 50 * MIB, 2));
    project.kill(&leader).await;
    project.drop_in("second", |path| drop(files::tree(path, 10, 0..500_000, 3)));
    let survivor = ["nats-1", "nats-2", "nats-3"].iter().position(|name| *name != leader).unwrap();
    let jetstream = project.jetstream(survivor).await.unwrap();
    all_arrive(&project, &jetstream).await;

    // Started again, it catches up; the streams that are there already are no obstacle.
    project.up().await;
    project.healthy(&leader).await;
    project.drop_in("third.txt", |path| files::text_file(path, 3_000, 4));
    all_arrive(&project, &jetstream).await;
}

/// An inbox of another user's is not taken from him: it is said what to set.
#[tokio::test]
async fn an_inbox_of_somebody_else_is_named() {
    let stranger = User::Own { uid: 4242, gid: 4242 };
    let Some(project) = Project::prepare(Profile::Single, stranger).await else { return };
    project.give_inbox_to(User::of_this_test());
    let up = project.compose(&["up", "--no-build", "owner"]).run().await;
    let said = up.text() + &up.errors();
    let (uid, gid) = User::of_this_test().ids();
    assert!(said.contains(&format!("set UID_GID={uid}:{gid}")), "{said}");
    assert_eq!(project.inspect("owner").await["State"]["ExitCode"], 1);
    assert!(User::of_this_test().owns(&project.inbox()).unwrap());
}

#[tokio::test]
async fn containers_are_small_and_may_do_little() {
    let Some(project) = Project::start(Profile::Single).await else { return };
    let (uid, gid) = project.user().ids();
    for service in ["nats", "producer", "consumer"] {
        let container = project.inspect(service).await;
        let host = &container["HostConfig"];
        assert_eq!(container["Config"]["User"], format!("{uid}:{gid}"), "{service}");
        assert_eq!(host["ReadonlyRootfs"], true, "{service}");
        assert_eq!(host["CapDrop"], serde_json::json!(["ALL"]), "{service}");
        assert_eq!(host["RestartPolicy"]["Name"], "unless-stopped", "{service}");
        assert_eq!(host["LogConfig"]["Config"]["max-size"], "10m", "{service}");
        let status = std::fs::read_to_string(format!("/proc/{}/status", container["State"]["Pid"])).unwrap();
        assert!(status.contains("CapEff:\t0000000000000000\n") && status.contains("NoNewPrivs:\t1\n"), "{status}");
        project.healthy(service).await;
    }
}

/// What is compiled in the image is this source. That it compiles there is tried nowhere: the stand-in hands out what is compiled.
#[tokio::test]
async fn the_image_has_both_programs_and_is_built_from_all_their_source() {
    let Some(images) = Images::get().await else { return };
    let (docker, image, home) = (images.docker, images.tag("natsfer"), tempfile::tempdir().unwrap());
    for program in ["natsfer-producer", "natsfer-consumer"] {
        let version = docker.docker(["run", "--rm", "--read-only", &image, program, "--version"]).run().await.success();
        assert_eq!(version.text(), format!("{program} {}\n", env!("CARGO_PKG_VERSION")));
    }
    let config = docker.docker(["inspect", "--format", "{{json .Config}}", &image]).run().await.success().json_lines();
    assert_eq!(config[0]["User"], "1000:1000");
    assert_eq!(config[0]["Labels"]["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));

    let context = home.path().join("src");
    images.copy_context(&context).await;
    for part in ["Cargo.lock", "Cargo.toml", "common/src", "producer/src", "consumer/src"] {
        let (ours, theirs) = (images.source().join(part), context.join(part));
        let _ =
            natsfer_tests::program("diff", ["-r".as_ref(), ours.as_os_str(), theirs.as_os_str()]).run().await.success();
    }
    // Cargo finds every member of the workspace.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let metadata = ["metadata", "--no-deps", "--offline", "--format-version", "1"];
    let _ = natsfer_tests::program(cargo, metadata).current_dir(&context).run().await.success();
    for foreign in [".env", ".git", "docs", "inbox", "outbox"] {
        assert!(!context.join(foreign).exists(), "{foreign} is sent to the engine");
    }
}
