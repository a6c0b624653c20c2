//! Every lie that a publisher can tell, and what must come of it.

use serde_json::{Value, json};

use crate::forger::{Chunk, Forgery, crc32, digest, gzip_bomb, zstd_bomb};

/// What must come of an attack. In each case nothing but whole files is written, and the next file lands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Off the inbox for good, recorded with this reason.
    Rejected(&'static str),
    /// As good as damaged: asked for again.
    AsksAgain,
    /// As good as unfinished: put back.
    Waits,
    /// Taken for what it is: a file like any other.
    Lands,
}

use Outcome::{AsksAgain, Lands, Rejected, Waits};

/// One attack.
pub(crate) struct Attack {
    pub(crate) what: &'static str,
    pub(crate) forgery: Forgery,
    pub(crate) outcome: Outcome,
}

const UNREADABLE: Outcome = Rejected("unreadable");
const NAME: Outcome = Rejected("name");
const CONTRADICTION: Outcome = Rejected("contradiction");
const BYTES: &[u8; 2_500] = &[7; 2_500];

/// All of them, the first with this number.
pub(crate) fn attacks(first: usize) -> Vec<Attack> {
    let mut list = List { attacks: Vec::new(), first };
    names(&mut list);
    manifests(&mut list);
    subjects(&mut list);
    chunks(&mut list);
    closings(&mut list);
    small_files(&mut list);
    list.attacks
}

struct List {
    attacks: Vec<Attack>,
    first: usize,
}

impl List {
    fn chunked(&mut self, what: &'static str, outcome: Outcome, change: impl FnOnce(&mut Forgery)) {
        let number = self.first + self.attacks.len();
        self.add(what, outcome, Forgery::new(number, &format!("attack-{number}"), BYTES), change);
    }

    fn inline(&mut self, what: &'static str, outcome: Outcome, change: impl FnOnce(&mut Forgery)) {
        let number = self.first + self.attacks.len();
        self.add(what, outcome, Forgery::inline(number, &format!("attack-{number}"), BYTES), change);
    }

    fn add(&mut self, what: &'static str, outcome: Outcome, mut forgery: Forgery, change: impl FnOnce(&mut Forgery)) {
        change(&mut forgery);
        self.attacks.push(Attack { what, forgery, outcome });
    }

    fn field(&mut self, what: &'static str, outcome: Outcome, field: &'static str, value: Value) {
        self.chunked(what, outcome, |forged| forged.manifest[field] = value);
    }
}

fn names(list: &mut List) {
    for (what, name) in [
        ("an absolute name", "/etc/cron.d/x"),
        ("a name that climbs", "../escaped"),
        ("a name that climbs from within", "a/../../escaped"),
        ("a name that climbs at its end", "a/.."),
        ("no name", ""),
        ("a dot", "."),
        ("an empty component", "a//b"),
        ("a directory's name", "a/"),
        ("a NUL", "a\0b"),
        ("a terminal escape", "\u{1b}]0;owned\u{7}"),
        ("a line break", "a\nb"),
        ("a name that reads backwards", "a\u{202e}gpj.exe"),
        ("the receiver's own directory", ".natsfer/receivers/r/x.ledger"),
        ("the receiver's own directory in capitals", ".NATSFER/x"),
    ] {
        list.field(what, NAME, "name", json!(name));
    }
    list.field("a component too long", NAME, "name", json!("x".repeat(256)));
    list.field("a path too long", NAME, "name", json!("x/".repeat(2_000) + "x"));
    list.field("half a surrogate pair", UNREADABLE, "name", json!("a"));
    let forged = &mut list.attacks.last_mut().unwrap().forgery;
    forged.manifest_text = Some(forged.manifest.to_string().replace(r#""name":"a""#, r#""name":"\ud800""#));
    // Where these lead was laid out before.
    list.field("through a symbolic link that leads out", NAME, "name", json!("way-out/escaped"));
    list.field("through a file", NAME, "name", json!("a-file/x"));
}

fn manifests(list: &mut List) {
    list.field("a setuid mode", UNREADABLE, "mode", json!(0o4755));
    list.field("a device's mode", UNREADABLE, "mode", json!(0o020_666));
    list.field("a negative mode", UNREADABLE, "mode", json!(-1));
    list.field("a negative size", UNREADABLE, "size", json!(-1));
    list.field("a size beyond 2^63", UNREADABLE, "size", json!(1_u64 << 63));
    list.field("a size beyond 2^64", UNREADABLE, "size", json!(1.9e19));
    list.field("a fraction of a byte", UNREADABLE, "size", json!(2500.5));
    list.field("chunks of nothing", UNREADABLE, "chunk_size", json!(0));
    list.field("chunks above the protocol's limit", UNREADABLE, "chunk_size", json!((64 << 20) + 1));
    list.field("chunks beyond 2^32", UNREADABLE, "chunk_size", json!(1_u64 << 32));
    list.field("a version to come", UNREADABLE, "version", json!(2));
    list.field("a requirement that is not met", UNREADABLE, "requires", json!(["encryption"]));
    list.field("an unknown digest", UNREADABLE, "digest_algorithm", json!("md5"));
    // What no file needs, and cannot be read, is left out.
    list.field("a date beyond the year 9999", Lands, "mtime", json!("+010000-01-01T00:00:00Z"));
    list.field("a date that is none", Lands, "mtime", json!("yesterday"));
    list.field("metadata of other things", UNREADABLE, "metadata", json!({ "a": { "b": [] } }));
    list.field("another transfer's id", UNREADABLE, "transfer", json!("f".repeat(32)));
    list.field("another channel", UNREADABLE, "channel", json!("elsewhere"));
    list.field("a record over 32 KiB", UNREADABLE, "media_type", json!("x".repeat(33_000)));
    list.field("a size that is not its chunks'", CONTRADICTION, "size", json!(2_400));
    list.field("more than a receiver takes", Rejected("too_large"), "size", json!(1_u64 << 40));
    list.field("more chunks than can be journalled", Rejected("too_large"), "chunk_size", json!(1));
    list.attacks.last_mut().unwrap().forgery.manifest["size"] = json!(9_000_000);
    list.field("fields nobody knows", Lands, "later", json!({ "deep": [[[[]]]] }));
    for (what, text) in [
        ("no JSON", "x".to_owned()),
        ("nothing", " ".to_owned()),
        ("half a record", r#"{"version":1,"#.to_owned()),
        ("an array", "[1]".to_owned()),
        ("deep JSON", "[".repeat(20_000)),
        ("deep JSON in a field to ignore", format!(r#"{{"version":1,"later":{}"#, "[".repeat(20_000))),
        ("two versions", r#"{"version":1,"version":2}"#.to_owned()),
    ] {
        list.chunked(what, UNREADABLE, |forged| forged.manifest_text = Some(text));
    }
    list.chunked("a name twice", UNREADABLE, |forged| {
        let text = forged.manifest.to_string();
        forged.manifest_text = Some(text.replacen('{', r#"{"name":"../escaped","#, 1));
    });
}

fn subjects(list: &mut List) {
    for (what, open) in [
        ("an id in capitals", "natsfer.open.forged.ABCDEF00ABCDEF00ABCDEF00ABCDEF00"),
        ("a short id", "natsfer.open.forged.abc"),
        ("an id that climbs", "natsfer.open.forged.%2e%2e%2fescaped"),
        // The server stores both as they are.
        ("a wildcard for a channel", "natsfer.open.*.00000000000000000000000000000000"),
        ("a wildcard for an id", "natsfer.open.forged.>"),
        ("a channel of odd letters", "natsfer.open.for$ged.00000000000000000000000000000000"),
        ("a channel too long", ""),
    ] {
        let long = format!("natsfer.open.{}.{}", "x".repeat(201), "0".repeat(32));
        let open = if open.is_empty() { long } else { open.to_owned() };
        list.chunked(what, UNREADABLE, |forged| forged.open = open);
    }
}

fn chunks(list: &mut List) {
    let mut with = |what, outcome, index: usize, change: fn(&mut Chunk)| {
        list.chunked(what, outcome, |forged| change(&mut forged.chunks[index]));
    };
    // Headers that cannot be right are no chunk's: what they stand for is missing.
    with("an index that overflows", AsksAgain, 1, |chunk| chunk.index = u64::MAX.to_string());
    with("an index beyond 2^64", AsksAgain, 1, |chunk| chunk.index = "18446744073709551616".into());
    with("a negative index", AsksAgain, 1, |chunk| chunk.index = "-1".into());
    with("an index with a zero before it", AsksAgain, 1, |chunk| chunk.index = "01".into());
    with("an index with a sign", AsksAgain, 1, |chunk| chunk.index = "+1".into());
    with("an index in other digits", AsksAgain, 1, |chunk| chunk.index = "\u{661}".into());
    with("an offset that is not its index's", AsksAgain, 1, |chunk| chunk.offset = "0".into());
    with("an offset that overflows", AsksAgain, 1, |chunk| chunk.offset = u64::MAX.to_string());
    with("no length", AsksAgain, 1, |chunk| chunk.length = "0".into());
    with("a length above the chunk's", AsksAgain, 1, |chunk| chunk.length = "1001".into());
    with("a checksum of another form", AsksAgain, 1, |chunk| chunk.crc32 = "0x1".into());
    with("a wrong checksum", AsksAgain, 1, |chunk| chunk.crc32 = "00000000".into());
    with("an unknown encoding", AsksAgain, 1, |chunk| chunk.encoding = "brotli".into());
    with("bytes that are not their encoding's", AsksAgain, 1, |chunk| chunk.encoding = "zstd".into());
    with("fewer bytes than declared", AsksAgain, 1, |chunk| chunk.payload.truncate(999));
    with("a zstd bomb", AsksAgain, 1, |chunk| (chunk.encoding, chunk.payload) = ("zstd".into(), zstd_bomb()));
    with("a gzip bomb", AsksAgain, 1, |chunk| (chunk.encoding, chunk.payload) = ("gzip".into(), gzip_bomb()));
    // What fits its headers and not the file is a lie.
    with("a length that is not its place's", CONTRADICTION, 1, |chunk| *chunk = Chunk::new(1, &[7; 10]));
    with("a chunk beyond the end", CONTRADICTION, 2, |chunk| *chunk = Chunk::new(3, &[7; 500]));
    list.chunked("other bytes under the same index", CONTRADICTION, |forged| {
        forged.chunks.push(Chunk::new(0, &[8; 1_000]));
        forged.chunks.rotate_right(1);
    });
    list.chunked("every chunk twice, and in disorder", Lands, |forged| {
        forged.chunks.extend(forged.chunks.clone());
        forged.chunks.reverse();
    });
    list.chunked("a file of unknown size that grows beyond the limit", Rejected("too_large"), |forged| {
        forged.manifest.as_object_mut().unwrap().remove("size");
        forged.chunks.push(Chunk::new(200_000, &[7; 1_000]));
        // With an end, the file may be whole, and land, before that chunk is seen.
        forged.closing = Value::Null;
    });
}

fn closings(list: &mut List) {
    let mut with = |what, outcome, field: &'static str, value: Value| {
        list.chunked(what, outcome, |forged| forged.closing[field] = value);
    };
    with("a digest of other bytes", CONTRADICTION, "digest", json!(digest(b"other")));
    with("a digest of another algorithm", CONTRADICTION, "digest", json!(format!("sha256:{}", "0".repeat(64))));
    with("fewer chunks than there are", CONTRADICTION, "chunks", json!(2));
    with("more chunks than there are", CONTRADICTION, "chunks", json!(u64::MAX));
    with("another size", CONTRADICTION, "size", json!(2_600));
    // A record that cannot be read is none: the transfer is not closed.
    with("a short digest", Waits, "digest", json!("blake3:00"));
    with("a long digest", Waits, "digest", json!(format!("blake3:{}", "0".repeat(128))));
    with("an unknown state", Waits, "state", json!("almost"));
    with("another transfer's end", Waits, "transfer", json!("f".repeat(32)));
    // Nor can it be waited for where this natsfer will never understand it.
    with("an end in a version to come", UNREADABLE, "version", json!(2));
    with("an end that requires what nobody has", UNREADABLE, "requires", json!(["encryption"]));
    list.chunked("no end", Waits, |forged| forged.closing = Value::Null);
}

fn small_files(list: &mut List) {
    list.inline("a small file", Lands, |_| ());
    list.inline("a small file of another checksum", AsksAgain, |forged| {
        let (headers, _) = forged.inline.as_mut().unwrap();
        headers.insert("Natsfer-Crc32", "00000000");
    });
    list.inline("a small file with two checksums", AsksAgain, |forged| {
        let (headers, _) = forged.inline.as_mut().unwrap();
        headers.append("Natsfer-Crc32", "00000000");
    });
    list.inline("a small file of other bytes", CONTRADICTION, |forged| {
        let (headers, payload) = forged.inline.as_mut().unwrap();
        let other = vec![8; BYTES.len()];
        headers.insert("Natsfer-Crc32", crc32(&other).as_str());
        *payload = other.into();
    });
    list.inline("a small file without a size", UNREADABLE, |forged| {
        forged.manifest.as_object_mut().unwrap().remove("size");
    });
    list.inline("a small file longer than it says", AsksAgain, |forged| forged.manifest["size"] = json!(2_499));
    list.inline("a small file larger than a chunk", UNREADABLE, |forged| forged.manifest["chunk_size"] = json!(100));
    list.inline("a bomb of a small file", AsksAgain, |forged| {
        forged.manifest["inline"]["encoding"] = json!("zstd");
        forged.inline.as_mut().unwrap().1 = zstd_bomb();
    });
    list.inline("a small file that declares what it expands to", Rejected("too_large"), |forged| {
        forged.manifest["inline"]["encoding"] = json!("zstd");
        forged.manifest["chunk_size"] = json!(64 << 20);
        forged.manifest["size"] = json!(64 << 20);
        forged.inline.as_mut().unwrap().1 = zstd_bomb();
    });
}
