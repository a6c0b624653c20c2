//! What a check has come to.

use serde_json::json;

use crate::cli::{Outcome, count, note, print_line};

/// What a check has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub check: String,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to change, if anything.
    pub change: Option<String>,
}

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, but not everything, or not as well as it could.
    Warn,
    /// It does not work like this.
    Fail,
}

impl Finding {
    /// All is well.
    pub fn ok(check: impl Into<String>, found: impl Into<String>) -> Self {
        Self { check: check.into(), verdict: Verdict::Ok, found: found.into(), change: None }
    }

    /// It could be better.
    pub fn warn(check: impl Into<String>, found: impl Into<String>, change: impl Into<String>) -> Self {
        let change = Some(change.into());
        Self { check: check.into(), verdict: Verdict::Warn, found: found.into(), change }
    }

    /// It does not work.
    pub fn fail(check: impl Into<String>, found: impl Into<String>, change: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, ..Self::warn(check, found, change) }
    }

    fn to_text(&self, width: usize) -> String {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        };
        let change = self.change.as_ref().map(|change| format!(". To change it: {change}")).unwrap_or_default();
        format!("{verdict:4}  {:width$}  {}{change}", self.check, self.found)
    }

    fn to_json(&self) -> String {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
        };
        let Self { check, found, change, .. } = self;
        json!({"event": "check", "check": check, "verdict": verdict, "found": found, "change": change}).to_string()
    }
}

/// Prints all of them, a line each. Failed if any has.
///
/// # Errors
/// When standard output cannot be written to.
pub fn print(findings: &[Finding], json: bool) -> std::io::Result<Outcome> {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    for finding in findings {
        print_line(&if json { finding.to_json() } else { finding.to_text(width) })?;
    }
    let of = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let (warnings, failures) = (of(Verdict::Warn), of(Verdict::Fail));
    let found = match (warnings, failures) {
        (0, 0) => "nothing is wrong".to_owned(),
        (warnings, 0) => format!("it works; {}", count(warnings as u64, "warning")),
        (warnings, failures) => {
            format!("{} and {}", count(failures as u64, "failure"), count(warnings as u64, "warning"))
        }
    };
    note(&format!("{}: {found}", count(findings.len() as u64, "check")));
    Ok(if failures > 0 { Outcome::Failed } else { Outcome::Done })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_one_line_with_what_to_change() {
        let fail = Finding::fail("disk", "is full", "make room");
        assert_eq!(fail.to_text(6), "FAIL  disk    is full. To change it: make room");
        assert_eq!(Finding::ok("disk", "has room").to_text(4), "ok    disk  has room");
        let json: serde_json::Value = serde_json::from_str(&fail.to_json()).unwrap();
        assert_eq!((&json["verdict"], &json["change"]), (&json!("fail"), &json!("make room")));
    }
}
