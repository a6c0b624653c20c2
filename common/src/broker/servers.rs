//! The URLs of servers, and what they say beside the address.

use super::{Login, Secret};

/// Comma-separated URLs, taken apart.
#[derive(Debug)]
pub(super) struct Servers {
    /// Without user, password or token: the client would leave these unused, and show them in its log.
    pub(super) urls: Vec<String>,
    /// What the first one that has a login says.
    pub(super) login: Login,
    /// Whether one of them is `tls://`. What it leads to is then encrypted, too, when the servers name others.
    pub(super) encrypted: bool,
    /// Whether all of them are `wss://`: TLS is then around the WebSocket, and the server need not know of it.
    pub(super) is_wrapped: bool,
}

impl Servers {
    pub(super) fn read(list: &str) -> Self {
        // Of a password with a comma in it nothing is shown either: before an '@', only a new URL's beginning separates.
        let given = || split(list).map(str::trim).filter(|url| !url.is_empty());
        // One that cannot be read is reported by connecting to it.
        let addresses = given().filter_map(|url| url.parse::<async_nats::ServerAddr>().ok());
        let mut login = Login::AsUrl;
        let (mut encrypted, mut only_secure_websockets, mut any) = (false, true, false);
        for address in addresses {
            encrypted |= address.tls_required();
            only_secure_websockets &= address.scheme() == "wss";
            any = true;
            if let (Login::AsUrl, Some(user)) = (&login, address.username()) {
                let user = percent_decoded(user);
                login = match address.password().map(percent_decoded) {
                    Some(password) => Login::UserPassword { user, password: Secret::text(password) },
                    None => Login::Token(Secret::text(user)),
                };
            }
        }
        Self { urls: given().map(without_login).collect(), login, encrypted, is_wrapped: any && only_secure_websockets }
    }

    /// For errors.
    pub(super) fn shown(&self) -> String {
        self.urls.join(", ")
    }
}

/// Whether one of these URLs carries a login.
pub(crate) fn has_login(list: &str) -> bool {
    Servers::read(list).login != Login::AsUrl
}

/// At commas, but for those between a URL's beginning and its '@'.
fn split(list: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(list);
    std::iter::from_fn(move || {
        let list = rest?;
        let login_ends = list.find("://").and_then(|scheme| {
            let authority = scheme + 3;
            let next = list[authority..].find("://").map_or(list.len(), |next| authority + next);
            let comma_before_scheme = list[..scheme].contains(',');
            list[authority..next].rfind('@').map(|at| authority + at).filter(|_| !comma_before_scheme)
        });
        let from = login_ends.unwrap_or(0);
        match list[from..].find(',') {
            Some(comma) => {
                rest = Some(&list[from + comma + 1..]);
                Some(&list[..from + comma])
            }
            None => rest.take(),
        }
    })
}

fn percent_decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn without_login(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        (None, Some((_, host))) => host.into(),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_taken_from_the_first_url_that_has_one() {
        let user = |user: &str, password| Login::UserPassword { user: user.into(), password: Secret::text(password) };
        assert_eq!(Servers::read("nats://a:4222,nats://u:p%40ss%2@b").login, user("u", "p@ss%2"));
        assert_eq!(Servers::read("nats://t%C3%B6ken@a, nats://u:p@b").login, Login::Token(Secret::text("töken")));
        assert_eq!(Servers::read("a:4222,not a url").login, Login::AsUrl);
    }

    #[test]
    fn the_client_and_errors_get_urls_without_secrets() {
        let servers = Servers::read("nats://u:p@ss@a:4222, b,, tls://token@c");
        assert_eq!(servers.urls, ["nats://a:4222", "b", "tls://c"]);
        assert_eq!(servers.shown(), "nats://a:4222, b, tls://c");
        assert_eq!(Servers::read("nats://u:p,ss@a,nats://v:w@b,c").shown(), "nats://a, nats://b, c");
        assert_eq!(Servers::read("b,nats://u:p,ss@a").shown(), "b, nats://a");
        assert!(servers.encrypted && !Servers::read("nats://a").encrypted);
        assert!(Servers::read("wss://a,wss://b").is_wrapped && !Servers::read("wss://a,ws://b").is_wrapped);
        assert!(!Servers::read("").is_wrapped);
    }
}
