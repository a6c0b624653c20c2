//! Sets of chunks as they stand in requests for repair. Input: two of them, a line each.

use natsfer_common::ChunkSet;

use crate::{text_lines, texts};

/// There is one way to write a set, and sets are sets, also at the end of what can be counted.
pub fn check(data: &[u8]) -> bool {
    let Some([text, other]) = text_lines(data) else { return false };
    let Ok(set) = serde_json::from_str::<ChunkSet>(text) else { return false };
    is_canonical(&set);
    let written = serde_json::to_value(&set).unwrap();
    assert_eq!(written, serde_json::from_str::<serde_json::Value>(text).unwrap());
    assert_eq!(serde_json::from_value::<ChunkSet>(written).unwrap(), set);

    let other = serde_json::from_str::<ChunkSet>(other).unwrap_or_default();
    let (rest, both, all) = (set.without(&other), set.intersection(&other), set.union(&other));
    [&rest, &both, &all].into_iter().for_each(is_canonical);
    let count = |set: &ChunkSet| u128::from(set.len());
    assert_eq!(count(&rest) + count(&both), count(&set));
    assert_eq!(count(&all), count(&rest) + count(&other));
    assert_eq!(rest.union(&both), set);
    assert_eq!(set.without(&both), rest);
    assert_eq!((both.clone(), all.clone()), (other.intersection(&set), other.union(&set)));
    for edge in set.runs().chain(other.runs()).flat_map(|run| [run.start, run.end - 1, run.end]) {
        let (here, there) = (set.contains(edge), other.contains(edge));
        assert_eq!((rest.contains(edge), both.contains(edge)), (here && !there, here && there));
        assert_eq!(all.contains(edge), here || there);
        assert_eq!(set.missing(edge), ChunkSet::run(0..edge).without(&set));
        let mut more = set.clone();
        assert_eq!(more.insert(edge), !here);
        assert_eq!(more, set.union(&ChunkSet::run(edge..edge + 1)));
    }
    !set.is_empty()
}

/// Runs in order and apart, none of them empty, and what is said about them.
pub(crate) fn is_canonical(set: &ChunkSet) {
    let runs: Vec<_> = set.runs().collect();
    assert!(runs.iter().all(|run| run.start < run.end), "{runs:?}");
    assert!(runs.windows(2).all(|pair| pair[0].end < pair[1].start), "{runs:?}");
    assert_eq!(set.last(), runs.last().map(|run| run.end - 1));
    assert_eq!(set.len(), runs.iter().map(|run| run.end - run.start).sum::<u64>());
    assert!(!set.contains(set.first_missing()));
    assert_eq!(set.to_string().is_empty(), set.is_empty());
    assert_eq!(&runs.into_iter().rev().collect::<ChunkSet>(), set);
}

/// Sets, and what is none.
pub fn seeds() -> Vec<Vec<u8>> {
    texts(&[
        "[]\n[[0,0]]",
        "[[0,5],[9,9]]\n[[3,10]]",
        "[[0,18446744073709551613]]\n[[7,7],[18446744073709551613,18446744073709551613]]",
        "[[1,1],[3,3],[5,5]]\n[[0,0],[2,2],[4,4],[6,6]]",
        "[[0,18446744073709551614]]",
        "[[18446744073709551615,18446744073709551615]]",
        "[[5,4]]",
        "[[3,4],[5,9]]",
        "[[9,9],[3,4]]",
        "[[0]]",
        "[[0,1.0]]",
    ])
}
