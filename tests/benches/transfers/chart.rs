//! The ratios as bars, with a mark where each is wanted: one SVG picture.

use std::fmt::Write as _;

use crate::contest::{Measure, Outcome};

const ROW: usize = 34;
const LABEL: usize = 430;
const WIDTH: usize = 960;
/// The axis ends here; longer bars are cut, their figures tell.
const MOST: f64 = 5.0;

pub(crate) fn draw(contests: &[Outcome]) -> String {
    let ratios: Vec<_> = contests
        .iter()
        .flat_map(|outcome| {
            outcome
                .ratios
                .iter()
                .filter(|ratio| ratio.goal.measure == Measure::Speed)
                .filter_map(move |ratio| Some((outcome.name, ratio, ratio.goal.at_least?)))
        })
        .collect();
    let height = 60 + ROW * ratios.len();
    let at = |ratio: f64| LABEL as f64 + (WIDTH - LABEL - 60) as f64 * ratio.min(MOST) / MOST;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"12\" y=\"26\" font-size=\"16\">natsfer beside its peers: times as fast (median); the line is what is wanted</text>\n"
    );
    for (index, (name, ratio, wanted)) in ratios.into_iter().enumerate() {
        let (found, y) = (ratio.median(), 46 + ROW * index);
        let colour = if found >= wanted { "#2a7" } else { "#c83" };
        let (start, end, mark) = (at(0.0), at(found), at(wanted));
        let label = format!(
            "{name}: {} / {}",
            ratio.goal.ours.label().replace("natsfer ", ""),
            ratio.goal.theirs.label().replace("natsfer ", "")
        );
        // Writing to a string cannot fail.
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{label}</text>\n\
             <rect x=\"{start}\" y=\"{y}\" width=\"{:.1}\" height=\"22\" fill=\"{colour}\"/>\n\
             <line x1=\"{mark:.1}\" x2=\"{mark:.1}\" y1=\"{}\" y2=\"{}\" stroke=\"black\" stroke-width=\"2\"/>\n\
             <text x=\"{:.1}\" y=\"{}\">{found:.2}</text>",
            LABEL - 8,
            y + 16,
            end - start,
            y - 3,
            y + 25,
            end.max(mark) + 6.0,
            y + 16,
        );
    }
    svg + "</svg>\n"
}
