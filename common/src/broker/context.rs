//! Contexts of the nats CLI: named files that say how to connect (ADR-21; nats-io/jsm.go, `natscontext`).

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{
    Handshake, Origin, Secret, Settings, SettingsError,
    secret::{is_open_to_others, read_text},
};

/// Where the contexts are, and what `~` in them is.
#[derive(Debug, Clone)]
pub struct Contexts {
    directory: PathBuf,
    home: Option<PathBuf>,
}

/// What a context's file says; what else is in it is for others.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Fields {
    url: String,
    user: String,
    password: String,
    token: String,
    creds: String,
    nkey: String,
    user_jwt: String,
    user_seed: String,
    cert: String,
    key: String,
    ca: String,
    tls_first: bool,
    jetstream_domain: String,
    jetstream_api_prefix: String,
    inbox_prefix: String,
    nsc: String,
    socks_proxy: String,
}

impl Contexts {
    /// Those in `nats/context` below `XDG_CONFIG_HOME`, or below `.config` in the home directory, as these variables say.
    ///
    /// # Errors
    /// When neither is set.
    pub fn of(variable: &impl Fn(&str) -> Option<OsString>) -> Result<Self, SettingsError> {
        let home = variable("HOME").map(PathBuf::from);
        let configuration = variable("XDG_CONFIG_HOME").map(PathBuf::from);
        let parent = configuration.or_else(|| Some(home.as_ref()?.join(".config"))).ok_or(SettingsError::NoHome)?;
        Ok(Self { directory: parent.join("nats").join("context"), home })
    }

    /// What the context of this name says. Warns when it holds a secret that others may read.
    ///
    /// # Errors
    /// When there is none, or its file cannot be used.
    pub fn read(&self, name: &str) -> Result<Settings, SettingsError> {
        let path = self.directory.join(format!("{name}.json"));
        if name.is_empty() || name.contains("..") || name.contains('/') || !path.exists() {
            let (directory, known) = (self.directory.clone(), self.known());
            return Err(SettingsError::UnknownContext { name: name.into(), directory, known });
        }
        let text = read_text(&path, "a context of the nats CLI")?;
        // The reader's own words may quote what it found, a password for example.
        let fields: Fields = serde_json::from_str(&text).map_err(|error| SettingsError::Malformed {
            path: path.clone(),
            line: error.line(),
            column: error.column(),
        })?;
        let secrets = [&fields.password, &fields.token, &fields.user_jwt, &fields.user_seed];
        if secrets.iter().any(|text| !text.is_empty()) && is_open_to_others(&path) {
            tracing::warn!("others may read {}, which holds a secret: chmod 600", path.display());
        }
        fields.settings(name, &path, self.home.as_deref())
    }

    /// The names of those there are, in order.
    fn known(&self) -> Vec<String> {
        let files = self.directory.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
        let json = files.filter(|path| path.extension().is_some_and(|end| end == "json"));
        let mut names: Vec<_> =
            json.filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned())).collect();
        names.sort();
        names
    }
}

impl Fields {
    fn settings(self, name: &str, path: &Path, home: Option<&Path>) -> Result<Settings, SettingsError> {
        let unsupported = |field, advice| Err(SettingsError::Unsupported { path: path.into(), field, advice });
        if !self.nsc.is_empty() || self.creds.starts_with("nsc://") {
            return unsupported("an nsc login", "write its credentials to a file, and name it with --creds");
        }
        if !self.socks_proxy.is_empty() {
            return unsupported("socks_proxy", "connect through a tunnel, or without the context");
        }
        let text = |text: String| Some(text).filter(|text| !text.is_empty());
        let secret = |given: String| text(given).map(Secret::text);
        let file = |given: String| text(given).map(|given| expanded(&given, home));
        let prefix = |given: String| {
            let parsed = text(given).map(|given| given.parse()).transpose();
            parsed.map_err(|source| SettingsError::Prefix { path: path.into(), source })
        };
        let domain = text(self.jetstream_domain).map(|given| given.parse()).transpose();
        Ok(Settings {
            origin: Origin::Context(name.into()),
            context: None,
            stream: None,
            server: text(self.url),
            user: text(self.user),
            password: secret(self.password),
            token: secret(self.token),
            credentials: file(self.creds).map(Secret::file),
            nkey: file(self.nkey).map(Secret::file),
            jwt: secret(self.user_jwt),
            jwt_seed: secret(self.user_seed),
            authorities: file(self.ca),
            certificate: file(self.cert),
            key: file(self.key),
            handshake: self.tls_first.then_some(Handshake::First),
            domain: domain.map_err(|source| SettingsError::Prefix { path: path.into(), source })?,
            api_prefix: prefix(self.jetstream_api_prefix)?,
            inbox_prefix: prefix(self.inbox_prefix)?,
        })
    }
}

/// A path as the nats CLI reads it, with `~` for the home directory.
fn expanded(path: &str, home: Option<&Path>) -> PathBuf {
    let path = path.strip_prefix("file://").unwrap_or(path);
    match (path.strip_prefix('~'), home) {
        (Some(rest), Some(home)) if rest.is_empty() || rest.starts_with('/') => home.join(rest.trim_start_matches('/')),
        _ => path.into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn settings(text: &str) -> Result<Settings, SettingsError> {
        let fields: Fields = serde_json::from_str(text).unwrap();
        fields.settings("lab", Path::new("lab.json"), Some(Path::new("/home/me")))
    }

    #[test]
    fn a_context_is_read_as_the_nats_cli_writes_it() {
        let written = r#"{ "description": "", "url": "nats://a", "token": "", "user": "u", "password": "p", "creds": "~/c",
            "nkey": "", "cert": "/c", "key": "~/k", "ca": "file:///ca", "nsc": "", "jetstream_domain": "hub",
            "jetstream_api_prefix": "", "jetstream_event_prefix": "", "inbox_prefix": "_IN", "tls_first": true,
            "color_scheme": "", "windows_ca_certs_match": null }"#;
        let read = settings(written).unwrap();
        assert_eq!(read.server.as_deref(), Some("nats://a"));
        assert_eq!((read.user.as_deref(), read.password, read.token), (Some("u"), Some(Secret::text("p")), None));
        assert_eq!(read.credentials, Some(Secret::file("/home/me/c")));
        assert_eq!((read.certificate, read.key), (Some("/c".into()), Some("/home/me/k".into())));
        assert_eq!((read.authorities, read.handshake), (Some("/ca".into()), Some(Handshake::First)));
        assert!(read.domain.is_some() && read.api_prefix.is_none() && read.inbox_prefix.is_some());
    }

    #[test]
    fn what_a_context_asks_for_in_vain_is_told() {
        assert!(matches!(settings(r#"{"nsc": "nsc://o/a/u"}"#), Err(SettingsError::Unsupported { .. })));
        assert!(matches!(settings(r#"{"socks_proxy": "socks5://a"}"#), Err(SettingsError::Unsupported { .. })));
        assert!(matches!(settings(r#"{"inbox_prefix": "a.>"}"#), Err(SettingsError::Prefix { .. })));
    }

    #[test]
    fn contexts_are_looked_for_where_the_nats_cli_has_them() {
        let at = |variables: &'static [(&str, &str)]| {
            let variable = |name: &str| Some(variables.iter().find(|(known, _)| *known == name)?.1.into());
            Contexts::of(&variable).map(|contexts| contexts.directory).ok()
        };
        assert_eq!(at(&[("HOME", "/h")]), Some("/h/.config/nats/context".into()));
        assert_eq!(at(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/x")]), Some("/x/nats/context".into()));
        assert_eq!(at(&[]), None);
        let none = Contexts { directory: "/nonexistent".into(), home: None };
        assert!(matches!(none.read("../a"), Err(SettingsError::UnknownContext { known, .. }) if known.is_empty()));
    }
}
