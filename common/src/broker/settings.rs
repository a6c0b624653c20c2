//! How to connect, as several places say it together: what one leaves open, the next one says.

use std::{path::PathBuf, sync::Arc};

use super::{
    AccessError, ClientCertificate, ConnectOptions, Handshake, JetStreamApi, JetStreamDomain, Login, Secret,
    SubjectPrefix, SubjectPrefixError, servers::Servers,
};
use crate::StreamName;

/// What one place says about how to connect; of anything else, `None`.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Settings {
    /// The place, in whose words errors speak.
    pub origin: Origin,
    /// The context of the nats CLI that is to be read besides.
    pub context: Option<String>,
    /// Comma-separated URLs.
    pub server: Option<String>,
    /// A user's name.
    pub user: Option<String>,
    /// The password of a user, whoever has said the name.
    pub password: Option<Secret>,
    /// A token.
    pub token: Option<Secret>,
    /// What a `.creds` file holds.
    pub credentials: Option<Secret>,
    /// The seed of a key pair.
    pub nkey: Option<Secret>,
    /// A JWT.
    pub jwt: Option<Secret>,
    /// The seed for the JWT.
    pub jwt_seed: Option<Secret>,
    /// The authorities that are trusted.
    pub authorities: Option<PathBuf>,
    /// The client's certificate.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// When the connection is encrypted.
    pub handshake: Option<Handshake>,
    /// The JetStream domain.
    pub domain: Option<JetStreamDomain>,
    /// The prefix of JetStream's API.
    pub api_prefix: Option<SubjectPrefix>,
    /// The prefix of inboxes.
    pub inbox_prefix: Option<SubjectPrefix>,
    /// The pair of streams.
    pub stream: Option<StreamName>,
}

/// Where settings stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Origin {
    /// The program's options.
    #[default]
    Options,
    /// The environment's variables.
    Environment,
    /// natsfer's configuration file, where the options have the names that they have on the command line.
    File,
    /// A context of the nats CLI, by its name.
    Context(Arc<str>),
}

/// What was said does not fit together, or the context that was named cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// One place says twice who this client is.
    #[error("{first} and {second} are two logins: give one")]
    TwoLogins {
        /// One of them, in the place's words.
        first: String,
        /// The other.
        second: String,
    },
    /// A user without a password.
    #[error("{user} needs a password: --password-file or NATS_PASSWORD (a token goes into --token-file or NATS_TOKEN)")]
    NoPassword {
        /// Where the user is named.
        user: String,
    },
    /// A password without a user.
    #[error("{password} needs a user: --user or NATS_USER")]
    NoUser {
        /// Where the password is.
        password: String,
    },
    /// A certificate without a key, or the other way round.
    #[error("a client certificate and its key go together: --tlscert and --tlskey, NATS_CERT and NATS_KEY")]
    HalfCertificate,
    /// JetStream is said to be in two places.
    #[error("{domain} and {prefix} are two places for JetStream: give one")]
    TwoPlaces {
        /// One of them, in the place's words.
        domain: String,
        /// The other.
        prefix: String,
    },
    /// There is no such context.
    #[error(
        "there is no context '{name}' in {}: there {}", directory.display(),
        if known.is_empty() { "is none".into() } else { format!("are {}", known.join(", ")) }
    )]
    UnknownContext {
        /// The name.
        name: String,
        /// Where it was looked for.
        directory: PathBuf,
        /// Those that there are.
        known: Vec<String>,
    },
    /// The directory of contexts is not known.
    #[error("where contexts are is not known: neither XDG_CONFIG_HOME nor HOME is set")]
    NoHome,
    /// A variable's value is none.
    #[error("variable {variable}")]
    Variable {
        /// Its name.
        variable: &'static str,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The context's file cannot be read.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The context's file is not what it should be.
    #[error("{} is not a context of the nats CLI: line {line}, column {column} is not as expected", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// The column.
        column: usize,
    },
    /// A prefix in the context's file cannot be one.
    #[error("context file {}", path.display())]
    Prefix {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: SubjectPrefixError,
    },
    /// The context wants what is not supported.
    #[error("context file {} has {field}, which natsfer does not support: {advice}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The field.
        field: &'static str,
        /// What to do.
        advice: &'static str,
    },
}

/// The kinds of login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    User,
    Token,
    Credentials,
    NKey,
    Jwt,
}

impl Origin {
    /// What this kind of login is called here.
    fn name(&self, kind: Kind) -> String {
        let [option, variable, field] = match kind {
            Kind::User => ["--user", "NATS_USER", "user"],
            Kind::Token => ["--token-file", "NATS_TOKEN", "token"],
            Kind::Credentials => ["--creds", "NATS_CREDS", "creds"],
            Kind::NKey => ["--nkey", "NATS_NKEY", "nkey"],
            Kind::Jwt => ["a JWT", "a JWT", "user_jwt"],
        };
        self.word(option, variable, field)
    }

    fn word(&self, option: &str, variable: &str, field: &str) -> String {
        match self {
            Self::Options => option.into(),
            Self::Environment => variable.into(),
            Self::File => format!("'{}' of the configuration file", option.trim_start_matches("--")),
            Self::Context(name) => format!("'{field}' of context '{name}'"),
        }
    }
}

impl Settings {
    /// The kind of login that is said here.
    fn kind(&self) -> Result<Option<Kind>, SettingsError> {
        let said = [
            self.user.as_ref().map(|_| Kind::User),
            self.token.as_ref().map(|_| Kind::Token),
            self.credentials.as_ref().map(|_| Kind::Credentials),
            self.nkey.as_ref().map(|_| Kind::NKey),
            self.jwt.as_ref().map(|_| Kind::Jwt),
        ];
        let mut said = said.into_iter().flatten();
        match (said.next(), said.next()) {
            (Some(first), Some(second)) => {
                Err(SettingsError::TwoLogins { first: self.origin.name(first), second: self.origin.name(second) })
            }
            (kind, _) => Ok(kind),
        }
    }

    /// Brings several places together, the one that counts most first.
    ///
    /// The first place that says who this client is decides; of the places behind it, only a user's password is taken. A URL
    /// with a login says it, too, where it stands, and gives way to another login beside it.
    ///
    /// # Errors
    /// When what is said does not fit together.
    pub fn resolve(places: &[Self]) -> Result<ConnectOptions, SettingsError> {
        let mut options = ConnectOptions::default();
        let server = first(places, |place| place.server.as_ref());
        options.login = login(places, server.as_ref().map(|(at, url)| (*at, url.as_str())))?;
        if let Some((_, server)) = server {
            options.server = server;
        }

        let path = |of: fn(&Self) -> Option<&PathBuf>| first(places, of).map(|(_, path)| path);
        options.tls.authorities = path(|place| place.authorities.as_ref());
        options.tls.certificate = match (path(|place| place.certificate.as_ref()), path(|place| place.key.as_ref())) {
            (Some(certificate), Some(key)) => Some(ClientCertificate { certificate, key }),
            (None, None) => None,
            _ => return Err(SettingsError::HalfCertificate),
        };
        options.tls.handshake =
            first(places, |place| place.handshake.as_ref()).map_or_else(Default::default, |(_, it)| it);

        // The first place that says where JetStream is decides, whichever way it says it.
        for Self { origin, domain, api_prefix, .. } in places {
            options.jetstream = match (domain, api_prefix) {
                (None, None) => continue,
                (Some(domain), None) => JetStreamApi::Domain(domain.clone()),
                (None, Some(prefix)) => JetStreamApi::Prefix(prefix.clone()),
                (Some(_), Some(_)) => {
                    let domain = origin.word("--js-domain", "NATSFER_JS_DOMAIN", "jetstream_domain");
                    let prefix = origin.word("--js-api-prefix", "NATSFER_JS_API_PREFIX", "jetstream_api_prefix");
                    return Err(SettingsError::TwoPlaces { domain, prefix });
                }
            };
            break;
        }
        options.inbox_prefix = first(places, |place| place.inbox_prefix.as_ref()).map(|(_, prefix)| prefix);
        if let Some((_, stream)) = first(places, |place| place.stream.as_ref()) {
            options.stream = stream;
        }
        Ok(options)
    }
}

/// What the first place says that says it, and which one that is.
fn first<T: Clone>(places: &[Settings], of: impl Fn(&Settings) -> Option<&T>) -> Option<(usize, T)> {
    places.iter().enumerate().find_map(|(at, place)| Some((at, of(place)?.clone())))
}

fn login(places: &[Settings], server: Option<(usize, &str)>) -> Result<Login, SettingsError> {
    for (at, place) in places.iter().enumerate() {
        let secret = |secret: &Option<Secret>| secret.clone().into_iter();
        let login = match place.kind()? {
            Some(Kind::User) => {
                let password = first(&places[at..], |place| place.password.as_ref()).map(|(_, password)| password);
                // One that counts more than the user's own place.
                let password = first(&places[..at], |place| place.password.as_ref()).map(|(_, it)| it).or(password);
                let user = || place.origin.name(Kind::User);
                let password = password.ok_or_else(|| SettingsError::NoPassword { user: user() })?;
                place.user.clone().map(|user| Login::UserPassword { user, password })
            }
            Some(Kind::Token) => secret(&place.token).map(Login::Token).next(),
            Some(Kind::Credentials) => secret(&place.credentials).map(Login::Credentials).next(),
            Some(Kind::NKey) => secret(&place.nkey).map(Login::NKey).next(),
            Some(Kind::Jwt) => secret(&place.jwt).map(|jwt| Login::Jwt { jwt, seed: place.jwt_seed.clone() }).next(),
            None => {
                server.filter(|(by, url)| *by == at && Servers::read(url).login != Login::AsUrl).map(|_| Login::AsUrl)
            }
        };
        if let Some(login) = login {
            lone_password(&places[..=at], &login)?;
            return Ok(login);
        }
    }
    lone_password(places, &Login::AsUrl)?;
    Ok(Login::AsUrl)
}

/// A password that was given as an option is meant: it is not silently left out. One in the environment may be for others.
fn lone_password(places: &[Settings], login: &Login) -> Result<(), SettingsError> {
    let meant = places.iter().any(|place| place.origin == Origin::Options && place.password.is_some());
    match login {
        Login::UserPassword { .. } => Ok(()),
        _ if meant => Err(SettingsError::NoUser { password: "--password-file".into() }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Settings {
        Settings::default()
    }

    fn environment() -> Settings {
        Settings { origin: Origin::Environment, ..Settings::default() }
    }

    fn context() -> Settings {
        Settings { origin: Origin::Context("lab".into()), ..Settings::default() }
    }

    fn text(text: &str) -> Option<Secret> {
        Some(Secret::text(text))
    }

    fn resolved(places: &[Settings]) -> Result<ConnectOptions, String> {
        Settings::resolve(places).map_err(|error| error.to_string())
    }

    fn login(places: &[Settings]) -> Result<Login, String> {
        resolved(places).map(|options| options.login)
    }

    fn user(password: &str) -> Login {
        Login::UserPassword { user: "u".into(), password: Secret::text(password) }
    }

    #[test]
    fn the_first_place_that_says_who_it_is_decides() {
        let creds = Settings { credentials: text("creds"), ..options() };
        let token = Settings { token: text("token"), ..environment() };
        let nkey = Settings { nkey: text("nkey"), ..context() };
        assert_eq!(login(&[creds, token.clone(), nkey.clone()]), Ok(Login::Credentials(Secret::text("creds"))));
        assert_eq!(login(&[options(), token, nkey.clone()]), Ok(Login::Token(Secret::text("token"))));
        assert_eq!(login(&[options(), environment(), nkey]), Ok(Login::NKey(Secret::text("nkey"))));
        assert_eq!(login(&[options(), environment(), context()]), Ok(Login::AsUrl));
    }

    #[test]
    fn user_and_password_may_stand_in_two_places() {
        let named = Settings { user: Some("u".into()), ..options() };
        let word = Settings { password: text("p"), ..environment() };
        assert_eq!(login(&[named.clone(), word]), Ok(user("p")));
        let whole = Settings { user: Some("u".into()), password: text("old"), ..context() };
        assert_eq!(login(&[Settings { password: text("new"), ..options() }, environment(), whole]), Ok(user("new")));
        assert!(login(&[named]).is_err_and(|error| error.starts_with("--user needs a password")));
        let alone = Settings { password: text("p"), ..options() };
        assert!(login(&[alone]).is_err_and(|error| error.starts_with("--password-file needs a user")));
        assert_eq!(login(&[options(), Settings { password: text("p"), ..environment() }]), Ok(Login::AsUrl));
    }

    #[test]
    fn a_login_in_the_url_counts_where_the_url_stands() {
        let url = |url: &str, place: Settings| Settings { server: Some(url.into()), ..place };
        let creds = |place: Settings| Settings { credentials: text("creds"), ..place };
        let credentials = || Ok(Login::Credentials(Secret::text("creds")));
        assert_eq!(login(&[url("nats://u:p@a", options()), creds(environment())]), Ok(Login::AsUrl));
        assert_eq!(login(&[url("nats://u:p@a", creds(options()))]), credentials());
        assert_eq!(login(&[creds(options()), url("nats://u:p@a", environment())]), credentials());
        // The URL that is not used says nothing.
        let places = [url("nats://a", options()), url("nats://u:p@b", environment()), creds(context())];
        assert_eq!(login(&places), credentials());
        assert_eq!(resolved(&places).map(|options| options.server), Ok("nats://a".into()));
    }

    #[test]
    fn two_of_a_kind_in_one_place_are_refused_in_its_words() {
        let two = |place: Settings| Settings { token: text("t"), credentials: text("c"), ..place };
        let error = |place| login(&[two(place)]).map_or_else(|error| error, |_| String::new());
        assert_eq!(error(options()), "--token-file and --creds are two logins: give one");
        assert_eq!(error(environment()), "NATS_TOKEN and NATS_CREDS are two logins: give one");
        assert!(error(context()).starts_with("'token' of context 'lab' and 'creds'"));
        let domain = "hub".parse().ok();
        let both = Settings { domain: domain.clone(), api_prefix: "JS.hub".parse().ok(), ..options() };
        assert!(resolved(&[both]).is_err_and(|error| error.contains("--js-domain and --js-api-prefix")));
        let prefix = Settings { api_prefix: "JS.hub".parse().ok(), ..options() };
        let apart = resolved(&[prefix, Settings { domain, ..context() }]);
        assert!(apart.is_ok_and(|options| matches!(options.jetstream, JetStreamApi::Prefix(_))));
    }

    #[test]
    fn half_a_certificate_is_refused_and_halves_may_stand_apart() {
        let certificate = Settings { certificate: Some("c".into()), ..options() };
        assert!(resolved(std::slice::from_ref(&certificate)).is_err());
        let key = Settings { key: Some("k".into()), ..environment() };
        assert!(resolved(&[certificate, key]).is_ok_and(|options| options.tls.certificate.is_some()));
    }
}
