//! The request for repair.

use natsfer_common::{ChunkSet, RepairRequest, header};

use crate::{chunk_set, record, samples};

/// What is read asks for something, and is written and read again. So is whatever is asked for with the same chunks.
pub fn check(data: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(data) else { return false };
    let transfer = samples::subject().transfer;
    let read = |text: &str| RepairRequest::from_header(text, transfer);
    let Ok(request) = read(text) else { return false };
    assert_eq!(request.transfer, transfer);
    assert!(!request.chunks.is_empty());
    chunk_set::is_canonical(&request.chunks);
    record::is_read_again(text, &request, RepairRequest::to_header, read);

    let own = RepairRequest::new(transfer, request.receiver.clone(), &scattered(&request.chunks));
    assert_eq!(read(&own.to_header().unwrap()).unwrap(), own);
    true
}

/// As many runs as a receiver could ever miss, at such a distance from each other.
fn scattered(chunks: &ChunkSet) -> ChunkSet {
    let step = chunks.last().unwrap_or(0).clamp(2, 1 << 48);
    let last = u64::MAX - 3;
    chunks.runs().chain((0..2_000).map(|at| last - at * step).map(|index| index..index + 1)).collect()
}

/// The example, and lies.
pub fn seeds() -> Vec<Vec<u8>> {
    let repair = samples::header("repair", header::REPAIR);
    let with = |runs: &str| repair.replace("[[0,0],[3,7]]", runs).into_bytes();
    let mut seeds = record::seeds(repair);
    let lies = ["[]", "[[5,4]]", "[[3,4],[5,9]]", "[[9,9],[3,4]]", "[[0]]", "[[-1,2]]", "[[0,0,0]]"];
    seeds.extend(lies.map(with));
    seeds.extend(["[[0,18446744073709551613]]", "[[0,18446744073709551614]]", "[[0,18446744073709551615]]"].map(with));
    for count in [700, 701] {
        let runs: Vec<_> = (0..count).map(|at| format!("[{0},{0}]", 2 * at)).collect();
        seeds.push(with(&format!("[{}]", runs.join(","))));
    }
    seeds
}
