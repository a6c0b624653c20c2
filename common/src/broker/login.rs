//! Who this client is, and how it proves it.

use std::path::Path;

use async_nats::Auth;
use nkeys::{KeyPair, KeyPairType};

use super::secret::{AccessError, Secret};

const PASSWORD: &str = "a password";
const TOKEN: &str = "a token";
const SEED: &str = "the NKEY seed of a user, which begins with SU";
const JWT: &str = "the JWT of a user";
const CREDENTIALS: &str = "a user's JWT and NKEY seed, as a .creds file does";

/// How to log in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Login {
    /// As the first URL says that carries a login, `user:password@` or `token@`; without one, not at all.
    #[default]
    AsUrl,
    /// With a name and a password.
    UserPassword {
        /// The name.
        user: String,
        /// The password.
        password: Secret,
    },
    /// With a token.
    Token(Secret),
    /// With a key pair, by its seed (`SU…`): the server learns the public key, and that the client has the private one.
    NKey(Secret),
    /// With what a `.creds` file holds: a JWT, and the seed of the key pair it was issued for.
    Credentials(Secret),
    /// With a JWT and the seed apart.
    Jwt {
        /// The JWT.
        jwt: Secret,
        /// The seed; none for a bearer's JWT, which needs no proof.
        seed: Option<Secret>,
    },
}

impl Login {
    /// What is said to a server that greets with this nonce. Reads the files anew.
    pub(super) fn answer(&self, nonce: &[u8]) -> Result<Auth, AccessError> {
        let mut auth = Auth::new();
        match self {
            Self::AsUrl => {}
            Self::UserPassword { user, password } => {
                (auth.username, auth.password) = (Some(user.clone()), Some(password.read(PASSWORD)?));
            }
            Self::Token(token) => auth.token = Some(token.read(TOKEN)?),
            Self::NKey(seed) => {
                let pair = key_pair(&seed.read(SEED)?).ok_or_else(|| seed.unfit(SEED))?;
                (auth.nkey, auth.signature) = (Some(pair.public_key()), pair.sign(nonce).ok());
            }
            Self::Credentials(secret) => {
                let text = secret.read(CREDENTIALS)?;
                let mut blocks = blocks(&text);
                let jwt = blocks.next().filter(|jwt| looks_like_jwt(jwt));
                let pair = blocks.next().and_then(key_pair);
                let (Some(jwt), Some(pair)) = (jwt, pair) else { return Err(secret.unfit(CREDENTIALS)) };
                (auth.jwt, auth.signature) = (Some(jwt.to_owned()), pair.sign(nonce).ok());
            }
            Self::Jwt { jwt, seed } => {
                let text = jwt.read(JWT)?;
                auth.jwt = Some(Some(text).filter(|text| looks_like_jwt(text)).ok_or_else(|| jwt.unfit(JWT))?);
                if let Some(seed) = seed {
                    let pair = key_pair(&seed.read(SEED)?).ok_or_else(|| seed.unfit(SEED))?;
                    auth.signature = pair.sign(nonce).ok();
                }
            }
        }
        Ok(auth)
    }

    /// The files it is in.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        let secrets = match self {
            Self::AsUrl => [None, None],
            Self::UserPassword { password: secret, .. }
            | Self::Token(secret)
            | Self::NKey(secret)
            | Self::Credentials(secret) => [Some(secret), None],
            Self::Jwt { jwt, seed } => [Some(jwt), seed.as_ref()],
        };
        secrets.into_iter().flatten().filter_map(Secret::path)
    }

    /// Takes what is in pipes: they cannot be read again for the next connection.
    pub(super) fn drain_pipes(&mut self) -> Result<(), AccessError> {
        match self {
            Self::AsUrl => Ok(()),
            Self::UserPassword { password, .. } => password.drain_pipe(PASSWORD),
            Self::Token(token) => token.drain_pipe(TOKEN),
            Self::NKey(seed) => seed.drain_pipe(SEED),
            Self::Credentials(secret) => secret.drain_pipe(CREDENTIALS),
            Self::Jwt { jwt, seed } => {
                jwt.drain_pipe(JWT)?;
                seed.as_mut().map_or(Ok(()), |seed| seed.drain_pipe(SEED))
            }
        }
    }
}

/// The key pair of a user, from its seed: the text itself, or a line of it.
fn key_pair(text: &str) -> Option<KeyPair> {
    let seed = text.lines().map(str::trim).find(|line| line.starts_with("SU"))?;
    KeyPair::from_seed(seed).ok().filter(|pair| pair.key_pair_type() == KeyPairType::User)
}

fn looks_like_jwt(text: &str) -> bool {
    text.split('.').count() == 3 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.=".contains(&b))
}

/// What stands below each `-----BEGIN …-----`.
fn blocks(text: &str) -> impl Iterator<Item = &str> {
    let mut lines = text.lines().map(str::trim);
    std::iter::from_fn(move || {
        lines.find(|line| line.starts_with("---") && line.contains("BEGIN"))?;
        lines.find(|line| !line.is_empty())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn seed() -> (KeyPair, String) {
        let pair = KeyPair::new_user();
        let seed = pair.seed().unwrap();
        (pair, seed)
    }

    fn credentials(seed: &str) -> String {
        format!(
            "-----BEGIN NATS USER JWT-----\na.b-_.c\n------END NATS USER JWT------\n\n*** IMPORTANT ***\n\n\
             -----BEGIN USER NKEY SEED-----\r\n{seed}\r\n------END USER NKEY SEED------\n"
        )
    }

    #[test]
    fn a_seed_and_credentials_sign_what_the_server_asks() {
        let (pair, seed) = seed();
        for text in [seed.clone(), format!("-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------")] {
            let auth = Login::NKey(Secret::text(text)).answer(b"nonce").unwrap();
            assert_eq!(auth.nkey, Some(pair.public_key()));
            pair.verify(b"nonce", &auth.signature.unwrap()).unwrap();
        }
        let auth = Login::Credentials(Secret::text(credentials(&seed))).answer(b"nonce").unwrap();
        assert_eq!(auth.jwt.as_deref(), Some("a.b-_.c"));
        pair.verify(b"nonce", &auth.signature.unwrap()).unwrap();
        let bearer = Login::Jwt { jwt: Secret::text("a.b.c"), seed: None }.answer(b"nonce").unwrap();
        assert!(bearer.jwt.is_some() && bearer.signature.is_none());
    }

    #[test]
    fn what_is_no_login_is_told_without_showing_it() {
        let account = KeyPair::new_account().seed().unwrap();
        for login in [
            Login::NKey(Secret::text("SUhunter2")),
            Login::NKey(Secret::text(account.clone())),
            Login::Credentials(Secret::text("hunter2")),
            Login::Credentials(Secret::text(credentials("SUhunter2"))),
            Login::Jwt { jwt: Secret::text("hunter2"), seed: None },
        ] {
            let error = login.answer(b"nonce").map(drop).unwrap_err();
            let said = format!("{error} {error:?} {login:?}");
            assert!(!said.contains("hunter2") && !said.contains(&account), "{said}");
        }
    }
}
