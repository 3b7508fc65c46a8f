//! The explorer: the maps of all heads side by side, what each head says of an image, and the images nearest to it under each.
//!
//! What it shows stands in the page as one block: a list of names as JSON, then numbers of 16 bits, all of it deflated and in base64;
//! `assets/explorer.js` reads it in the same order. Coordinates are drawn to 1/2047 of their range, a quarter of a pixel, and probabilities
//! to 1/1000.

use crate::Extras;
use crate::align::aligned;
use crate::pictures::mapped;
use crate::plots::{extent, hex_colors};
use crate::sprites;
use askama::Template;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use faceoff_evaluation::Evaluation;
use faceoff_evaluation::groups::Group;
use faceoff_evaluation::look::{MOST_IMAGES, NEIGHBORS};
use faceoff_evaluation::measured::{Maps, Measured, ValImages};
use faceoff_runs::thousands;
use flate2::{Compression, write::DeflateEncoder};
use serde::Serialize;
use std::collections::HashMap;
use std::io::Write as _;

/// Modules of d3 with their licences, each after those that it needs, and what links the maps by them.
const SCRIPT: &str = concat!(
    "/*\n",
    include_str!("../../assets/d3/LICENSE"),
    "*/\n",
    include_str!("../../assets/d3/d3-dispatch.min.js"),
    include_str!("../../assets/d3/d3-selection.min.js"),
    include_str!("../../assets/d3/d3-drag.min.js"),
    include_str!("../../assets/d3/d3-color.min.js"),
    include_str!("../../assets/d3/d3-interpolate.min.js"),
    include_str!("../../assets/d3/d3-timer.min.js"),
    "/*\n",
    include_str!("../../assets/d3/LICENSE-ease"),
    "*/\n",
    include_str!("../../assets/d3/d3-ease.min.js"),
    include_str!("../../assets/d3/d3-transition.min.js"),
    include_str!("../../assets/d3/d3-zoom.min.js"),
    include_str!("../../assets/d3/d3-quadtree.min.js"),
    include_str!("../../assets/d3/d3-polygon.min.js"),
    include_str!("../../assets/explorer.js"),
);

/// Steps along the longest side of a map.
const STEPS: f64 = 2047.0;
/// The label of an image that is not of a set.
const NONE: u32 = u16::MAX as u32;

#[derive(Template)]
#[template(path = "explorer.html")]
pub(crate) struct Explorer {
    /// Deflated, in base64; `None` where there are too many images.
    data: Option<String>,
    /// JPEG sheets in base64.
    sheets: Vec<String>,
    /// Whether heads say something of images.
    said: bool,
    /// Why there are no thumbnails, or nothing at all.
    note: Option<String>,
}

/// The names, and what stands in the numbers behind them.
#[derive(Serialize)]
struct Names<'a> {
    /// Paths of all images, evaluated and index.
    images: Vec<&'a str>,
    /// Whether places of images take two numbers each.
    wide: bool,
    sets: Vec<Set<'a>>,
    /// For light and for dark paper.
    colors: [Vec<String>; 2],
    /// Neighbours that vote.
    votes: usize,
    /// Steps along the longest side of a map.
    steps: u32,
    sprites: Option<Sheet>,
}

#[derive(Serialize)]
struct Sheet {
    side: usize,
    columns: usize,
    per_sheet: usize,
}

/// The images and runs of one condition.
#[derive(Serialize)]
struct Set<'a> {
    condition: &'a str,
    classes: &'a [String],
    images: usize,
    runs: Vec<Run<'a>>,
}

/// Which numbers a run has.
#[derive(Serialize)]
struct Run<'a> {
    name: &'a str,
    tsne: bool,
    pca: bool,
    said: bool,
    neighbors: usize,
    /// Numbers of the hardest pairs: of two classes, of one.
    pairs: [usize; 2],
    /// By class and weight: training images, and how many of them are named.
    centers: Vec<Vec<(u64, usize)>>,
}

impl Explorer {
    /// `None` where no run has a map.
    pub(super) fn of(outcome: &Evaluation, extras: &Extras<'_>) -> Option<Self> {
        let mut numbers = Numbers::default();
        let with_maps = |group: &&Group| run_of(outcome, group).next().is_some();
        let groups: Vec<&Group> = outcome.groups.iter().filter(with_maps).collect();
        if groups.is_empty() {
            return None;
        }
        // Conditions may share their images.
        let evaluated = groups.iter().filter_map(|group| Some(&run_of(outcome, group).next()?.1.images));
        let count = Images::of(evaluated).ids.len();
        if count > MOST_IMAGES {
            let note = format!(
                "{} validation images are too many to look at one by one on a page; {} are the most.",
                thousands(count),
                thousands(MOST_IMAGES)
            );
            return Some(Self { data: None, sheets: Vec::new(), said: false, note: Some(note) });
        }
        // Every image has a place before the first place is written.
        let images = Images::of(groups.iter().flat_map(|group| run_of(outcome, group)).flat_map(|(run, maps)| {
            let index = run.look.iter().filter_map(|look| look.index.as_ref());
            [&maps.images].into_iter().chain(index)
        }));
        numbers.wide = images.ids.len() > u16::MAX as usize;
        let sets: Vec<Set<'_>> = groups.iter().map(|group| set(outcome, group, &images, &mut numbers)).collect();
        let said = sets.iter().flat_map(|set| &set.runs).any(|run| run.said);
        let found = sprites::of_runs(outcome, extras, &images.ids);
        let (thumbnails, note) = found.map_or_else(|why| (None, Some(why)), |found| (found, None));
        let names = Names {
            images: images.ids.clone(),
            wide: numbers.wide,
            sets,
            colors: hex_colors(),
            votes: outcome.settings.headline_neighbors.min(NEIGHBORS),
            steps: STEPS as u32,
            sprites: thumbnails.as_ref().map(|s| Sheet { side: s.side, columns: s.columns, per_sheet: s.per_sheet }),
        };
        let sheets = thumbnails.iter().flat_map(|found| &found.sheets).map(|sheet| STANDARD.encode(sheet)).collect();
        Some(Self { data: Some(packed(&names, &numbers.bytes)), sheets, said, note })
    }
}

/// The runs of a group that have maps.
fn run_of<'a>(outcome: &'a Evaluation, group: &'a Group) -> impl Iterator<Item = (&'a Measured, &'a Maps)> {
    mapped(outcome).filter(|(run, _)| group.variants.contains(&run.variant))
}

fn set<'a>(outcome: &'a Evaluation, group: &'a Group, images: &Images<'a>, numbers: &mut Numbers) -> Set<'a> {
    let (_, maps) = run_of(outcome, group).next().expect("the group has a run with maps");
    let evaluated = &maps.images;
    let places: Vec<u32> = evaluated.ids.iter().map(|id| images.places[id.as_str()]).collect();
    numbers.places(&places);
    let mut labels = vec![NONE; images.ids.len()];
    // The index of one run is that of all; a run that was exported has none.
    let index = run_of(outcome, group).find_map(|(run, _)| run.look.as_ref()?.index.as_ref());
    for set in index.into_iter().chain([evaluated]) {
        for (id, &label) in set.ids.iter().zip(&set.labels) {
            labels[images.places[id.as_str()] as usize] = label;
        }
    }
    numbers.plain(labels);
    let mut reference: Option<Vec<[f64; 3]>> = None;
    let mut runs = Vec::new();
    for (run, maps) in run_of(outcome, group) {
        // The images of a condition are the same for all its runs, in the same order.
        if maps.images != *evaluated {
            continue;
        }
        // A map of a sample has no place for every image, and is left to the pictures.
        let place = |place: &Option<[f64; 2]>| place.map(|[x, y]| [x, y, 0.0]);
        let tsne = maps.tsne.as_ref().and_then(|places| places.iter().map(place).collect::<Option<Vec<_>>>());
        if let Some(points) = &tsne {
            let reference = reference.get_or_insert_with(|| points.clone());
            numbers.coordinates(&aligned(reference, points), 2);
        }
        if let Some(points) = &maps.pca {
            numbers.coordinates(points, 3);
        }
        let said = run.look.as_ref().and_then(|look| look.said.as_ref());
        if let Some(said) = said {
            numbers.plain(said.classes.iter().copied());
            numbers.plain(said.confidences.iter().map(|confidence| (1000.0 * confidence).round() as u32));
        }
        let near = run.look.as_ref().map_or(0, |look| look.neighbors.first().map_or(0, Vec::len));
        if let Some(look) = run.look.as_ref().filter(|_| near > 0) {
            let index = look.index.as_ref().unwrap_or(evaluated);
            let place = |&at: &u32| images.places[index.ids[at as usize].as_str()];
            numbers.places(&look.neighbors.iter().flatten().map(place).collect::<Vec<_>>());
        }
        let look = run.look.as_ref();
        let pairs = look.map_or([&[][..]; 2], |look| [&look.near, &look.far]);
        for pairs in pairs {
            numbers.plain(pairs.iter().map(|pair| pair.a));
            numbers.plain(pairs.iter().map(|pair| pair.b));
            numbers.plain(pairs.iter().map(|pair| (100.0 * pair.degrees).round() as u32));
        }
        let at_weights = look.map_or(&[][..], |look| &look.centers);
        if let Some(index) = look.and_then(|look| look.index.as_ref()) {
            let place = |&at: &u32| images.places[index.ids[at as usize].as_str()];
            numbers.places(&at_weights.iter().flatten().flatten().map(place).collect::<Vec<_>>());
        }
        let counts = run.found.shapes.sub_centers.as_ref().map(|shapes| &shapes.counts);
        let count = |class: usize, weight: usize| counts.and_then(|counts| Some(*counts.get(class)?.get(weight)?));
        let of_class = |(class, weights): (usize, &Vec<Vec<u32>>)| {
            let of_weight =
                |(weight, at): (usize, &Vec<u32>)| (count(class, weight).unwrap_or(at.len() as u64), at.len());
            weights.iter().enumerate().map(of_weight).collect()
        };
        runs.push(Run {
            pairs: pairs.map(<[_]>::len),
            centers: at_weights.iter().enumerate().map(of_class).collect(),
            name: outcome.name(run.variant),
            tsne: tsne.is_some(),
            pca: maps.pca.is_some(),
            said: said.is_some(),
            neighbors: near,
        });
    }
    let classes = group.classes(&outcome.selection);
    Set { condition: &group.condition, classes, images: evaluated.ids.len(), runs }
}

/// Every image once, in the order of its first place.
#[derive(Default)]
struct Images<'a> {
    ids: Vec<&'a str>,
    places: HashMap<&'a str, u32>,
}

impl<'a> Images<'a> {
    fn of(sets: impl IntoIterator<Item = &'a ValImages>) -> Self {
        let mut images = Self::default();
        for id in sets.into_iter().flat_map(|set| &set.ids) {
            let next = images.ids.len() as u32;
            if *images.places.entry(id).or_insert(next) == next {
                images.ids.push(id);
            }
        }
        images
    }
}

/// Numbers of 16 bits, one list behind the other, of each first all lower bytes and then all upper ones: that deflates better.
#[derive(Default)]
struct Numbers {
    /// A half of a list each.
    bytes: Vec<Vec<u8>>,
    wide: bool,
}

impl Numbers {
    /// Numbers below 65536.
    fn plain(&mut self, values: impl IntoIterator<Item = u32>) {
        let values: Vec<u32> = values.into_iter().collect();
        self.bytes.extend([0, 8].map(|shift| values.iter().map(|value| (value >> shift) as u8).collect()));
    }

    /// Places of images: all lower halves, and behind them all upper halves where there are so many images.
    fn places(&mut self, places: &[u32]) {
        self.plain(places.iter().map(|place| place & 0xFFFF));
        if self.wide {
            self.plain(places.iter().map(|place| place >> 16));
        }
    }

    /// Axis by axis, with equal units on all, from 0 to [`STEPS`] along the longest.
    fn coordinates(&mut self, points: &[[f64; 3]], axes: usize) {
        let ranges: Vec<(f64, f64)> = (0..axes)
            .map(|axis| extent(points.iter().map(|point| point[axis]).filter(|value| value.is_finite())))
            .collect();
        let longest = ranges.iter().map(|(low, high)| high - low).fold(f64::MIN_POSITIVE, f64::max);
        for (axis, (low, high)) in ranges.into_iter().enumerate() {
            let middle = (low + high) / 2.0;
            // A value that is no number lies in the middle.
            let place = |point: &[f64; 3]| (STEPS / 2.0 + STEPS * (point[axis] - middle) / longest).round() as u32;
            let most = STEPS as u32;
            self.plain(
                points.iter().map(|point| if point[axis].is_finite() { place(point).min(most) } else { most / 2 }),
            );
        }
    }
}

/// Length of the names, names, numbers; deflated, in base64. Each half of a list has codes of its own, which saves a twentieth.
fn packed(names: &Names<'_>, numbers: &[Vec<u8>]) -> String {
    let names = serde_json::to_vec(names).expect("plain data is always valid JSON");
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    let head = [&(names.len() as u32).to_le_bytes()[..], &names];
    for part in head.into_iter().chain(numbers.iter().map(Vec::as_slice)) {
        encoder.write_all(part).and_then(|()| encoder.flush()).expect("memory takes everything");
    }
    STANDARD.encode(encoder.finish().expect("memory takes everything"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_of_several_conditions_counts_once() {
        let set =
            |ids: &[&str]| ValImages { ids: ids.iter().map(ToString::to_string).collect(), ..ValImages::default() };
        let sets = [set(&["a", "b"]), set(&["b", "a"]), set(&["c", "b"])];
        let images = Images::of(&sets);
        assert_eq!(images.ids, ["a", "b", "c"]);
        assert_eq!((images.places["b"], images.places["c"]), (1, 2));
    }
}
