//! What can be looked at image by image: what a head says of each validation image, the images that lie nearest to it, the pairs that
//! are hardest to tell, and the images at each of several weights a class.
//!
//! Of one run a variant, as its maps. It is worked out from the embeddings once and then stored in `look.bin`, deflated; see
//! `store.rs`. Exported runs have it with fewer neighbours, and with the coordinates of their maps to 1/2047 of their range.

use crate::measured::{Maps, Points, Splits, Subject, ValImages};
use faceoff_analysis::neighbors::{self, Neighbors};
pub use faceoff_analysis::pairs::Pair;
use faceoff_analysis::{Result, accuracy, class_weights, pairs};
use flate2::{Compression, read::DeflateDecoder, write::DeflateEncoder};
use ndarray::ArrayView1;
use std::io::{Read as _, Write as _};

/// Of more validation images than this none is looked at by itself: a page of them would open slowly, and no neighbours are sought.
pub const MOST_IMAGES: usize = 20_000;
/// So many neighbours of an image are kept.
pub const NEIGHBORS: usize = 10;
/// So many of them go into an exported run: those that KNN accuracy counts.
pub(crate) const EXPORTED_NEIGHBORS: usize = 5;
/// So many pairs of each kind are kept, each image in one at most.
const PAIRS: usize = 24;
/// Of more images than this no pairs are sought: there are too many.
const MOST_PAIRED: usize = 10_000;
/// So many images at each weight of a class are kept.
const AT_A_WEIGHT: usize = 12;
/// A list is no longer.
const MOST_NUMBERS: usize = 1 << 28;
/// No file is longer when inflated.
const MOST_BYTES: u64 = 1 << 30;
/// The form of the bytes, the first of them. The first form had none: it began with the width of a list, which is 4 at most.
const FORM: u8 = 0x82;
/// Steps along the range of a coordinate in an exported run.
const STEPS: f64 = 2047.0;

/// Each validation image under one run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Look {
    /// The images among which neighbours are sought; `None` where these are the validation images themselves.
    pub index: Option<ValImages>,
    /// Places in the index of the nearest images by cosine, for each validation image the nearest first.
    pub neighbors: Vec<Vec<u32>>,
    /// What the head says; `None` where its scores say nothing of the evaluated classes, and for a loss of pairs, which has none.
    pub said: Option<Said>,
    /// Validation images of two classes that lie nearest to each other, the nearest first; degrees to a hundredth.
    pub near: Vec<Pair>,
    /// Validation images of one class that lie farthest from each other, the farthest first.
    pub far: Vec<Pair>,
    /// By class trained on and weight of it, the training images whose nearest weight of the class it is, the nearest first; places in
    /// the index. Empty for a head with one weight a class.
    pub centers: Vec<Vec<Vec<u32>>>,
    /// What could not be worked out, and why; it stands in `measured.json`.
    pub notes: Vec<String>,
}

/// What a head says of each validation image, labels withheld.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    /// The class of the highest score.
    pub classes: Vec<u32>,
    /// Its probability, to a thousandth: the softmax of the scores times the head's scale.
    pub confidences: Vec<f64>,
}

impl Look {
    /// Of a run's splits.
    pub(crate) fn of_splits(splits: &Splits, subject: &Subject<'_>) -> Result<Self> {
        let said = subject.classifier.and_then(Said::of);
        let look = Self::of(subject, Some(ValImages::of(&splits.train)))?;
        Ok(match subject.classifier.map_or(Ok(Vec::new()), at_weights) {
            Ok(centers) => Self { said, centers, ..look },
            Err(error) => Self { said, notes: vec![format!("no images at each weight of a class: {error}.")], ..look },
        })
    }

    /// Of embeddings alone: the neighbours and pairs. `index` are the images of the subject's index.
    pub(crate) fn of(subject: &Subject<'_>, index: Option<ValImages>) -> Result<Self> {
        let queries = subject.queries;
        let count = queries.labels.len();
        let found = match subject.index {
            _ if count > MOST_IMAGES => None,
            Some(index) => Some(neighbors::nearest(index.unit, queries.unit, NEIGHBORS.min(index.labels.len()))?),
            None => Some(neighbors::nearest_excluding_self(queries.unit, NEIGHBORS.min(count.saturating_sub(1)))?),
        };
        let rows = |found: Neighbors| found.indices.rows().into_iter().map(|row| row.to_vec()).collect();
        let neighbors = found.map_or_else(|| vec![Vec::new(); count], rows);
        let [near, far] = hardest(&queries)?;
        Ok(Self { index, neighbors, near, far, ..Self::default() })
    }
}

impl Said {
    fn of(splits: &Splits) -> Option<Self> {
        let (scores, scale) = (splits.scores(&splits.val)?, f64::from(splits.val.effective_scale));
        let classes = accuracy::predictions(scores);
        let confidence = |(row, &class): (ArrayView1<'_, f32>, &u32)| {
            let highest = f64::from(row[class as usize]);
            let share = 1.0 / row.iter().map(|&score| (scale * (f64::from(score) - highest)).exp()).sum::<f64>();
            (1000.0 * share).round() / 1000.0
        };
        let confidences = scores.rows().into_iter().zip(&classes).map(confidence).collect();
        Some(Self { classes, confidences })
    }
}

/// The hardest pairs, to a hundredth of a degree; none of more than [`MOST_PAIRED`] images.
fn hardest(points: &Points<'_>) -> Result<[Vec<Pair>; 2]> {
    if points.labels.len() > MOST_PAIRED {
        return Ok(Default::default());
    }
    let rounded = |pair: Pair| Pair { degrees: (100.0 * pair.degrees).round() / 100.0, ..pair };
    let found = pairs::hardest(points.unit, points.labels, PAIRS)?;
    Ok(found.map(|pairs| pairs.into_iter().map(rounded).collect()))
}

/// The training images at each of several weights a class.
fn at_weights(splits: &Splits) -> Result<Vec<Vec<Vec<u32>>>> {
    let Some(weights) = splits.weights.as_ref().filter(|weights| weights.dim().0 > 1) else { return Ok(Vec::new()) };
    let (count, classes, _) = weights.dim();
    let found = class_weights::angles(splits.train.unit(), &splits.train.labels_trained, weights.view())?;
    let mut order: Vec<usize> = (0..found.own.len()).collect();
    order.sort_by(|&a, &b| found.own[a].total_cmp(&found.own[b]).then(a.cmp(&b)));
    let mut at = vec![vec![Vec::new(); count]; classes];
    for image in order {
        let here: &mut Vec<u32> = &mut at[splits.train.labels_trained[image] as usize][found.center[image]];
        if here.len() < AT_A_WEIGHT {
            here.push(image as u32);
        }
    }
    Ok(at)
}

/// The bytes of `look.bin`, with so many neighbours at most and with coordinates if there are `maps`.
pub(crate) fn to_bytes(look: &Look, neighbors: usize, maps: Option<&Maps>) -> Vec<u8> {
    let mut to = Writer { bytes: vec![FORM] };
    let (images, each) = (look.neighbors.len(), look.neighbors.first().map_or(0, |of| of.len().min(neighbors)));
    to.numbers([images, each]);
    // Column by column: the nearest of all images first.
    to.numbers((0..each).flat_map(|n| look.neighbors.iter().map(move |of| of[n] as usize)));
    to.some(look.index.as_ref(), Writer::images);
    to.some(look.said.as_ref(), |to, said| {
        to.list(said.classes.iter().map(|&class| class as usize));
        to.numbers(said.confidences.iter().map(|confidence| (1000.0 * confidence).round() as usize));
    });
    for pairs in [&look.near, &look.far] {
        to.list(pairs.iter().map(|pair| pair.a as usize));
        to.numbers(pairs.iter().map(|pair| pair.b as usize));
        to.numbers(pairs.iter().map(|pair| (100.0 * pair.degrees).round() as usize));
    }
    to.numbers([look.centers.len()]);
    for of_class in &look.centers {
        to.numbers([of_class.len()]);
        of_class.iter().for_each(|at| to.list(at.iter().map(|&image| image as usize)));
    }
    to.some(maps, |to, maps| {
        to.images(&maps.images);
        // A map of a sample has no place for every image, and is no map of these.
        let tsne = maps.tsne.as_ref().and_then(|places| places.iter().copied().collect::<Option<Vec<[f64; 2]>>>());
        to.some(tsne.as_ref(), |to, points| {
            (0..2).for_each(|axis| to.coordinates(points.iter().map(|point| point[axis])))
        });
        to.some(maps.pca.as_ref(), |to, points| {
            (0..3).for_each(|axis| to.coordinates(points.iter().map(|point| point[axis])))
        });
    });
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&to.bytes).expect("memory takes everything");
    encoder.finish().expect("memory takes everything")
}

/// What stands in `look.bin`, and the maps if it has some; `None` for bytes that are no such file.
pub(crate) fn from_bytes(bytes: &[u8]) -> Option<(Look, Option<Maps>)> {
    let mut all = Vec::new();
    DeflateDecoder::new(bytes).take(MOST_BYTES).read_to_end(&mut all).ok()?;
    let mut from = match all.split_first()? {
        (&FORM, rest) => Reader { bytes: rest },
        (0..=4, _) => Reader { bytes: &all },
        _ => return None,
    };
    let [images, each] = from.numbers(2)?[..] else { return None };
    let (images, each) = (images as usize, each as usize);
    if images > MOST_NUMBERS {
        return None;
    }
    let places = from.numbers(images.checked_mul(each)?)?;
    let of = |image: usize| (0..each).map(|n| places[n * images + image]).collect();
    let neighbors = (0..images).map(of).collect();
    let index = from.some(Reader::images)?;
    let said = from.some(|from| {
        let classes = from.list()?;
        let confidences = from.numbers(classes.len())?.into_iter().map(|value| f64::from(value) / 1000.0).collect();
        Some(Said { classes, confidences })
    })?;
    let mut pairs = || -> Option<Vec<Pair>> {
        let a = from.list()?;
        let (b, degrees) = (from.numbers(a.len())?, from.numbers(a.len())?);
        let pair = |((a, b), degrees): ((u32, u32), u32)| Pair { a, b, degrees: f64::from(degrees) / 100.0 };
        Some(a.into_iter().zip(b).zip(degrees).map(pair).collect())
    };
    let (near, far) = (pairs()?, pairs()?);
    let classes = from.numbers(1)?[0];
    let mut of_class = || {
        let weights = from.numbers(1)?[0];
        (0..weights).map(|_| from.list()).collect::<Option<Vec<_>>>()
    };
    let centers = (0..classes).map(|_| of_class()).collect::<Option<Vec<_>>>()?;
    let maps = from.some(|from| {
        let images = from.images()?;
        let count = images.ids.len();
        let tsne = from.some(|from| {
            let [x, y] = [from.coordinates(count)?, from.coordinates(count)?];
            Some(x.into_iter().zip(y).map(|(x, y)| Some([x, y])).collect())
        })?;
        let pca = from.some(|from| {
            let [x, y, z] = [from.coordinates(count)?, from.coordinates(count)?, from.coordinates(count)?];
            Some(x.into_iter().zip(y).zip(z).map(|((x, y), z)| [x, y, z]).collect())
        })?;
        Some(Maps { images, tsne, pca, ..Maps::default() })
    })?;
    let look = Look { index, neighbors, said, near, far, centers, notes: Vec::new() };
    from.bytes.is_empty().then_some((look, maps))
}

/// Lists of whole numbers below 2^32: how many bytes the largest needs, then the lowest bytes of all, the next ones, and so on, since what
/// is alike deflates well.
#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn numbers(&mut self, values: impl IntoIterator<Item = usize>) {
        let values: Vec<usize> = values.into_iter().collect();
        let largest = values.iter().copied().max().unwrap_or(0);
        let planes = (0..4).find(|planes| largest >> (8 * planes) == 0).unwrap_or(4);
        self.bytes.push(planes as u8);
        (0..planes).for_each(|byte| self.bytes.extend(values.iter().map(|value| (value >> (8 * byte)) as u8)));
    }

    /// Numbers with their count before them.
    fn list(&mut self, values: impl Iterator<Item = usize>) {
        let values: Vec<usize> = values.collect();
        self.numbers([values.len()]);
        self.numbers(values);
    }

    fn some<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.numbers([usize::from(value.is_some())]);
        if let Some(value) = value {
            write(self, value);
        }
    }

    /// Of each name what the one before does not begin with.
    fn images(&mut self, images: &ValImages) {
        self.list(images.labels.iter().map(|&label| label as usize));
        let mut before: &str = "";
        let (mut kept, mut rests) = (Vec::new(), Vec::new());
        for id in &images.ids {
            let same = before.char_indices().zip(id.chars()).take_while(|((_, a), b)| a == b).last();
            let same = same.map_or(0, |((at, letter), _)| at + letter.len_utf8());
            kept.push(same);
            rests.push(&id[same..]);
            before = id;
        }
        self.numbers(kept);
        self.numbers(rests.iter().map(|rest| rest.len()));
        rests.iter().for_each(|rest| self.bytes.extend(rest.as_bytes()));
    }

    /// Coordinates to a step of their range.
    fn coordinates(&mut self, values: impl Iterator<Item = f64>) {
        let values: Vec<f64> = values.collect();
        let finite = || values.iter().copied().filter(|value| value.is_finite());
        let (low, high) = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
        let (low, span) = if low < high { (low, high - low) } else { (if low.is_finite() { low } else { 0.0 }, 0.0) };
        self.bytes.extend([low, span].map(f64::to_le_bytes).as_flattened());
        let step =
            |value: f64| if span > 0.0 && value.is_finite() { (STEPS * (value - low) / span).round() } else { 0.0 };
        self.numbers(values.into_iter().map(|value| step(value) as usize));
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        Some(taken)
    }

    fn numbers(&mut self, count: impl TryInto<usize>) -> Option<Vec<u32>> {
        let count = count.try_into().ok()?;
        let planes = usize::from(self.take(1)?[0]);
        let bytes = self.take(count.checked_mul(planes)?)?;
        // Without a byte for each, the count is all that is known of them; no set of images is as large as a damaged one may be.
        if planes > 4 || count > MOST_NUMBERS {
            return None;
        }
        let byte = |at: usize, plane: usize| if plane < planes { bytes[plane * count + at] } else { 0 };
        Some((0..count).map(|at| u32::from_le_bytes([0, 1, 2, 3].map(|plane| byte(at, plane)))).collect())
    }

    fn list(&mut self) -> Option<Vec<u32>> {
        let count = self.numbers(1_usize)?[0];
        self.numbers(count)
    }

    fn some<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        match self.numbers(1_usize)?[0] {
            0 => Some(None),
            _ => read(self).map(Some),
        }
    }

    fn images(&mut self) -> Option<ValImages> {
        let labels = self.list()?;
        let (kept, rests) = (self.numbers(labels.len())?, self.numbers(labels.len())?);
        let mut ids: Vec<String> = Vec::new();
        for (kept, rest) in kept.into_iter().zip(rests) {
            let before = ids.last().map_or("", String::as_str).get(..kept as usize)?;
            ids.push(format!("{before}{}", std::str::from_utf8(self.take(rest as usize)?).ok()?));
        }
        Some(ValImages { ids, labels })
    }

    fn coordinates(&mut self, count: usize) -> Option<Vec<f64>> {
        let ends = self.take(16)?;
        let [low, span] = [&ends[..8], &ends[8..]].map(|end| f64::from_le_bytes(end.try_into().expect("eight bytes")));
        Some(self.numbers(count)?.into_iter().map(|step| low + span * f64::from(step) / STEPS).collect())
    }
}

/// Whether places lie within the images that they are places of, and lists are as long as there are images.
pub(crate) fn fits(look: &Look, images: usize) -> bool {
    let index = look.index.as_ref().map_or(images, |index| index.ids.len());
    let within = |places: &[u32], count: usize| places.iter().all(|&place| (place as usize) < count);
    look.neighbors.len() == images
        && look.neighbors.iter().all(|of| within(of, index))
        && look.said.as_ref().is_none_or(|said| said.classes.len() == images)
        && look.near.iter().chain(&look.far).all(|pair| within(&[pair.a, pair.b], images))
        && look.centers.iter().flatten().all(|at| within(at, index))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(ids: &[&str]) -> ValImages {
        ValImages { ids: ids.iter().map(|id| id.to_string()).collect(), labels: (0..ids.len() as u32).collect() }
    }

    #[test]
    fn no_neighbours_are_sought_for_more_images_than_a_page_shows() {
        let settings = crate::families::settings_of_quick();
        let neighbors = |images: usize| {
            let unit = ndarray::Array2::from_shape_fn((images, 2), |(image, axis)| f32::from(image % 2 == axis));
            let labels: Vec<u32> = (0..images as u32).map(|image| image % 2).collect();
            let points = Points { unit: unit.view(), labels: &labels };
            let index = Some(Points { unit: unit.slice(ndarray::s![..12, ..]), labels: &labels[..12] });
            let subject = Subject {
                index,
                queries: points,
                classifier: None,
                held_out: None,
                classes: 2,
                seed: 0,
                settings: &settings,
            };
            Look::of(&subject, None).unwrap().neighbors
        };
        assert_eq!(neighbors(MOST_IMAGES + 1), vec![Vec::<u32>::new(); MOST_IMAGES + 1]);
        assert!(neighbors(MOST_IMAGES).iter().all(|near| near.len() == NEIGHBORS));
    }

    #[test]
    fn what_is_written_is_read() {
        let look = Look {
            index: Some(images(&[
                "train/a/1.JPEG",
                "train/a/12.JPEG",
                "train/\u{e4}/1\n.JPEG",
                "train/\u{e5}",
                "",
                "x",
            ])),
            neighbors: vec![vec![5, 0, 70_000], vec![1, 2, 3]],
            said: Some(Said { classes: vec![0, 300], confidences: vec![0.125, 1.0] }),
            near: vec![Pair { a: 0, b: 1, degrees: 12.34 }],
            far: Vec::new(),
            centers: vec![vec![vec![1, 2], vec![]], vec![vec![], vec![4]]],
            notes: Vec::new(),
        };
        assert_eq!(from_bytes(&to_bytes(&look, NEIGHBORS, None)).unwrap(), (look.clone(), None));
        assert!(!fits(&look, 2) && fits(&Look { neighbors: vec![vec![5], vec![0]], ..look.clone() }, 2));
        // Fewer neighbours, and coordinates to a step.
        let tsne = Some(vec![Some([-3.0, 1.0]), Some([5.0, 1.0])]);
        let pca = Some(vec![[0.0, 0.1, f64::NAN], [1.0, 0.2, 0.0]]);
        let maps = Maps { images: images(&["val/b", "val/c"]), pca, tsne: tsne.clone(), ..Maps::default() };
        let bytes = to_bytes(&look, 1, Some(&maps));
        let (less, found) = from_bytes(&bytes).unwrap();
        assert_eq!(less.neighbors, [[5], [1]]);
        let found = found.unwrap();
        assert_eq!((found.images, found.tsne), (maps.images, tsne));
        assert!((found.pca.unwrap()[1][1] - 0.2).abs() < 1e-12);
        // Nothing else is taken for it.
        assert!(from_bytes(&bytes[..bytes.len() / 2]).is_none() && from_bytes(b"id,label\n").is_none());
    }

    #[test]
    fn the_first_form_is_still_read_and_no_later_one() {
        let look = Look { neighbors: vec![vec![1], vec![0]], ..Look::default() };
        let mut bytes = Vec::new();
        DeflateDecoder::new(&to_bytes(&look, NEIGHBORS, None)[..]).read_to_end(&mut bytes).unwrap();
        let read = |bytes: &[u8]| {
            let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(bytes).unwrap();
            from_bytes(&encoder.finish().unwrap())
        };
        assert_eq!((read(&bytes), read(&bytes[1..])), (Some((look.clone(), None)), Some((look, None))));
        bytes[0] += 1;
        assert_eq!(read(&bytes), None);
        // Two numbers of four bytes: as many images as fit, without a neighbour.
        assert_eq!(read(&[FORM, 4, 255, 0, 255, 0, 255, 0, 255, 0]), None);
    }
}
