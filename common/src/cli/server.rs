//! Where to connect, as whom, and what to use there: the options every command has.

use std::{
    ffi::OsString,
    path::PathBuf,
    str::FromStr,
    time::{Duration, Instant},
};

use super::{line_of, wrong_usage};
use crate::{
    StreamName,
    broker::{
        Broker, BrokerError, ConnectOptions, Contexts, Handshake, JetStreamDomain, Origin, Secret, Settings,
        SettingsError, SubjectPrefix, has_login,
    },
};

/// Rest before a server that is not there is looked for again.
const CONNECT_REST: Duration = Duration::from_secs(1);

/// What was given on the command line, as it was given. No option takes a secret: others on the machine can read them.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Server")]
pub struct ServerArguments {
    /// NATS server URL, tls://… to demand encryption; several, comma-separated [env: NATS_URL] [default:
    /// nats://127.0.0.1:4222]
    #[arg(long, value_name = "URL", global = true)]
    server: Option<String>,
    /// Context of the nats CLI with all that is not given here; the one it has selected is not used by itself [env:
    /// NATS_CONTEXT]
    #[arg(long, value_name = "NAME", global = true)]
    context: Option<String>,
    /// User, whose password is in --password-file or NATS_PASSWORD [env: NATS_USER]
    #[arg(long, value_name = "NAME", global = true, hide_short_help = true)]
    user: Option<String>,
    /// File with the user's password [env: NATS_PASSWORD, the password itself]
    #[arg(long, value_name = "FILE", global = true, hide_short_help = true)]
    password_file: Option<PathBuf>,
    /// File with a token [env: NATS_TOKEN, the token itself]
    #[arg(long, value_name = "FILE", global = true, hide_short_help = true)]
    token_file: Option<PathBuf>,
    /// File with a user's JWT and NKEY seed [env: NATS_CREDS]
    #[arg(long, value_name = "FILE", global = true, hide_short_help = true)]
    creds: Option<PathBuf>,
    /// File with a user's NKEY seed [env: NATS_NKEY]
    #[arg(long, value_name = "FILE", global = true, hide_short_help = true)]
    nkey: Option<PathBuf>,
    /// Client certificate, PEM [env: NATS_CERT]
    #[arg(long, value_name = "FILE", global = true, hide_short_help = true)]
    tlscert: Option<PathBuf>,
    /// Its private key, PEM [env: NATS_KEY]
    #[arg(long, value_name = "FILE", global = true, hide_short_help = true)]
    tlskey: Option<PathBuf>,
    /// Certificate authorities to trust instead of the machine's, PEM [env: NATS_CA]
    #[arg(long, value_name = "FILE", global = true, hide_short_help = true)]
    tlsca: Option<PathBuf>,
    /// Encrypt before the server greets (its handshake_first)
    #[arg(long, global = true, hide_short_help = true)]
    tlsfirst: bool,
    /// JetStream domain, as behind a leaf node [env: NATSFER_JS_DOMAIN]
    #[arg(long, value_name = "DOMAIN", global = true, hide_short_help = true)]
    js_domain: Option<JetStreamDomain>,
    /// Prefix of JetStream's API, as imported from another account [env: NATSFER_JS_API_PREFIX]
    #[arg(long, value_name = "PREFIX", global = true, hide_short_help = true)]
    js_api_prefix: Option<SubjectPrefix>,
    /// Prefix of the subjects on which answers come, instead of _INBOX [env: NATSFER_INBOX_PREFIX]
    #[arg(long, value_name = "PREFIX", global = true, hide_short_help = true)]
    inbox_prefix: Option<SubjectPrefix>,
    /// Stream that holds the transfers (its chunks are in NAME_DATA) [env: NATSFER_STREAM] [default: NATSFER]
    #[arg(long, value_name = "NAME", global = true)]
    stream: Option<StreamName>,
    /// What the configuration file says.
    #[arg(skip)]
    file: Option<Box<Settings>>,
}

/// An environment: the value of a variable. One that is empty counts as not set.
type Variables<'a> = &'a dyn Fn(&str) -> Option<OsString>;

impl ServerArguments {
    /// Brings together what the command line, the environment, the configuration file and the context say; of two that say the
    /// same, the first counts.
    ///
    /// # Errors
    /// When they do not fit together, or the context cannot be used: wrong usage.
    pub fn resolve(&self, variables: Variables<'_>) -> Result<ConnectOptions, SettingsError> {
        let variables = |name: &str| variables(name).filter(|value| !value.is_empty());
        let mut places = vec![self.settings(Origin::Options), environment(&variables)?];
        // A context counts less than who names it, and more than what was said before, for every day, in a file.
        if let Some(name) = places.iter().find_map(|place| place.context.clone()) {
            places.push(Contexts::of(&variables)?.read(&name)?);
            places.extend(self.file.as_deref().cloned());
        } else if let Some(file) = self.file.as_deref() {
            places.push(file.clone());
            if let Some(name) = &file.context {
                places.push(Contexts::of(&variables)?.read(name)?);
            }
        }
        Settings::resolve(&places)
    }

    /// Takes what a configuration file says, in the words of these options.
    pub(super) fn set_file(&mut self, file: &Self) {
        self.file = Some(Box::new(file.settings(Origin::File)));
    }

    /// What the options say.
    fn settings(&self, origin: Origin) -> Settings {
        let given = self.clone();
        Settings {
            origin,
            context: given.context,
            stream: given.stream,
            server: given.server,
            user: given.user,
            password: given.password_file.map(Secret::file),
            token: given.token_file.map(Secret::file),
            credentials: given.creds.map(Secret::file),
            nkey: given.nkey.map(Secret::file),
            authorities: given.tlsca,
            certificate: given.tlscert,
            key: given.tlskey,
            handshake: given.tlsfirst.then_some(Handshake::First),
            domain: given.js_domain,
            api_prefix: given.js_api_prefix,
            inbox_prefix: given.inbox_prefix,
            ..Settings::default()
        }
    }

    /// The options as this program connects with them. Ends the program with exit code 2 when they are wrong usage, and warns
    /// of secrets that others may read.
    ///
    /// # Errors
    /// When a file of the login cannot be read.
    fn options(&self, program: clap::Command) -> Result<ConnectOptions, BrokerError> {
        let client_name = program.get_name().to_owned();
        let mut options = match self.resolve(&|name| std::env::var_os(name)) {
            Ok(options) => options.with_client_name(client_name),
            Err(wrong) => {
                let line = line_of(&wrong);
                wrong_usage(program, None, clap::error::ErrorKind::ArgumentConflict, line)
            }
        };
        if self.server.as_deref().is_some_and(has_login) {
            tracing::warn!(
                "others on this machine can read the password in --server from the list of processes: give the URL in NATS_URL, \
                 or --user with --password-file"
            );
        }
        options.drain_pipes()?;
        for path in options.exposed_files() {
            tracing::warn!("others may read {}, which holds a secret: chmod 600", path.display());
        }
        Ok(options)
    }

    /// Connects as this program. A server that is not there is waited for as long as `patience` says.
    ///
    /// # Errors
    /// Those of [`Broker::connect`].
    pub async fn connect(&self, program: clap::Command, patience: Duration) -> Result<Broker, BrokerError> {
        let options = self.options(program)?;
        let started = Instant::now();
        let mut said = false;
        loop {
            match Broker::connect(&options).await {
                Err(error) if error.is_passing() && started.elapsed() + CONNECT_REST < patience => {
                    if !std::mem::replace(&mut said, true) {
                        tracing::warn!("{}. Trying again.", line_of(&error));
                    }
                    tokio::time::sleep(CONNECT_REST).await;
                }
                result => return result,
            }
        }
    }
}

/// What the environment says, in the variables of the nats CLI, and `NATSFER_` with an option's name where that has none.
fn environment(variables: &impl Fn(&str) -> Option<OsString>) -> Result<Settings, SettingsError> {
    let text = |name: &str| variables(name).map(|value| value.to_string_lossy().into_owned());
    let path = |name: &str| variables(name).map(PathBuf::from);
    Ok(Settings {
        origin: Origin::Environment,
        context: text("NATS_CONTEXT"),
        stream: parsed(&text, "NATSFER_STREAM")?,
        domain: parsed(&text, "NATSFER_JS_DOMAIN")?,
        api_prefix: parsed(&text, "NATSFER_JS_API_PREFIX")?,
        inbox_prefix: parsed(&text, "NATSFER_INBOX_PREFIX")?,
        server: text("NATS_URL"),
        user: text("NATS_USER"),
        password: text("NATS_PASSWORD").map(Secret::text),
        token: text("NATS_TOKEN").map(Secret::text),
        credentials: path("NATS_CREDS").map(Secret::file),
        nkey: path("NATS_NKEY").map(Secret::file),
        authorities: path("NATS_CA"),
        certificate: path("NATS_CERT"),
        key: path("NATS_KEY"),
        ..Settings::default()
    })
}

fn parsed<T: FromStr>(
    text: &impl Fn(&str) -> Option<String>, variable: &'static str,
) -> Result<Option<T>, SettingsError>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let parsed = text(variable).map(|text| text.parse()).transpose();
    parsed.map_err(|source: T::Err| SettingsError::Variable { variable, source: Box::new(source) })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::broker::Login;

    #[derive(clap::Parser)]
    struct Program {
        #[command(flatten)]
        server: ServerArguments,
    }

    fn resolve(arguments: &[&str], variables: &[(&str, &str)]) -> Result<ConnectOptions, String> {
        let given = Program::try_parse_from([&["natsfer"], arguments].concat()).map_err(|error| error.to_string())?;
        let variables = |name: &str| Some(variables.iter().find(|(known, _)| *known == name)?.1.into());
        given.server.resolve(&variables).map_err(|error| error.to_string())
    }

    #[test]
    fn without_anything_it_is_the_server_on_this_machine() {
        let options = resolve(&[], &[("NATS_URL", ""), ("NATS_CREDS", "")]).map_err(|error| error.to_string());
        assert!(
            options.is_ok_and(|options| options.server == "nats://127.0.0.1:4222" && options.login == Login::AsUrl)
        );
    }

    #[test]
    fn options_count_more_than_variables_whatever_the_kind() {
        let variables = [("NATS_URL", "nats://u:p@a"), ("NATS_CREDS", "c"), ("NATS_CA", "ca"), ("NATS_PASSWORD", "p")];
        let login = |arguments: &[&str]| resolve(arguments, &variables).map(|options| options.login);
        assert_eq!(login(&[]), Ok(Login::Credentials(Secret::file("c"))));
        assert_eq!(login(&["--token-file", "t"]), Ok(Login::Token(Secret::file("t"))));
        assert_eq!(login(&["--server", "nats://u:p@b"]), Ok(Login::AsUrl));
        let user = Login::UserPassword { user: "me".into(), password: Secret::text("p") };
        assert_eq!(login(&["--user", "me"]), Ok(user));
        let authorities = resolve(&["--tlsca", "other"], &variables).map(|options| options.tls.authorities);
        assert_eq!(authorities, Ok(Some("other".into())));
    }

    #[test]
    fn no_option_takes_a_secret() {
        for option in ["--password", "--token", "--seed", "--jwt"] {
            // `--password` would otherwise be taken for the beginning of `--password-file`.
            assert!(resolve(&[option, "hunter2"], &[]).is_err(), "{option}");
        }
    }

    #[test]
    fn an_unknown_context_is_told_with_where_it_was_looked_for() {
        let error = resolve(&[], &[("NATS_CONTEXT", "lab"), ("XDG_CONFIG_HOME", "/nonexistent")]).map(drop);
        let expected = "there is no context 'lab' in /nonexistent/nats/context: there is none";
        assert_eq!(error, Err(expected.into()));
    }
}
