//! Operator, account and user, as `nsc` would make them: JWTs signed with NKEYs, which the server knows from its operator's.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use nkeys::KeyPair;
use serde_json::{Value, json};

/// An operator with one account that has JetStream, and the system's.
pub(crate) struct Operator {
    operator: KeyPair,
    account: KeyPair,
    system: KeyPair,
}

impl Operator {
    pub(crate) fn new() -> Self {
        Self { operator: KeyPair::new_operator(), account: KeyPair::new_account(), system: KeyPair::new_account() }
    }

    /// What the server's configuration has of it.
    pub(crate) fn configuration(&self) -> String {
        let operator = jwt(&self.operator, &self.operator, "operator", json!({}));
        let limits = |bytes: i64| {
            json!({ "limits": {
                "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1,
                "leaf": -1, "mem_storage": bytes, "disk_storage": bytes, "streams": bytes, "consumer": bytes,
            } })
        };
        let (account, system) = (self.account.public_key(), self.system.public_key());
        let account_jwt = jwt(&self.operator, &self.account, "account", limits(-1));
        let system_jwt = jwt(&self.operator, &self.system, "account", limits(0));
        format!(
            "operator: {operator}\nsystem_account: {system}\nresolver: MEMORY\n\
             resolver_preload {{ {account}: {account_jwt}, {system}: {system_jwt} }}"
        )
    }

    /// The `.creds` of a new user of the account, and the user's seed.
    pub(crate) fn user(&self) -> (String, String) {
        let user = KeyPair::new_user();
        let seed = user.seed().unwrap();
        let limits = json!({ "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1 });
        let jwt = jwt(&self.account, &user, "user", limits);
        let creds = format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             ************************* IMPORTANT *************************\n\
             NKEY Seed printed below can be used to sign and prove identity.\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n\n\
             *************************************************************\n"
        );
        (creds, seed)
    }
}

fn jwt(issuer: &KeyPair, subject: &KeyPair, kind: &str, mut claims: Value) -> String {
    claims["type"] = json!(kind);
    claims["version"] = json!(2);
    let subject = subject.public_key();
    let claims = json!({
        "jti": format!("test-{subject}"), "iat": 1_700_000_000, "iss": issuer.public_key(), "name": kind, "sub": subject,
        "nats": claims,
    });
    let encoded = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", encoded(json!({ "typ": "JWT", "alg": "ed25519-nkey" })), encoded(claims));
    let signature = URL_SAFE_NO_PAD.encode(issuer.sign(text.as_bytes()).unwrap());
    format!("{text}.{signature}")
}
