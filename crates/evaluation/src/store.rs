//! `measured.json`, `maps.csv` and `look.bin` in a run's folder: what was measured once, so that it need not be measured again.
//!
//! A family's findings are used as long as they come from these embeddings (checksum), these settings (hash) and this version
//! of the family; maps, and what can be looked at image by image, likewise. Where the embeddings are not there, as in an exported run, what fits settings and versions is used
//! and the rest is named. Nothing that does not fit is used in silence.

use crate::error::{Error, Result};
use crate::look::{self, Look};
use crate::measured::{Findings, Maps, Shapes, Splits, measure_family};
use crate::registry::{Family, Registry};
use crate::selection::Run;
use faceoff_analysis::statistics::Interval;
use faceoff_runs::{AnalysisConfig, FileRecord, RunFolder, SplitName, write_atomically};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

const RECORD: &str = "measured.json";
const MAPS: &str = "maps.csv";
const LOOK: &str = "look.bin";
/// Version of the record. 2: the record holds a checksum of its own content.
const SCHEMA: u32 = 2;
/// Version of the maps' coordinates: rises whenever they may change.
const MAPS_VERSION: u32 = 1;
/// Version of the sample that t-SNE maps of too many images: rises whenever other images may be chosen. 2: no class has more than its
/// share. Maps of all images have none.
const SAMPLE_VERSION: u32 = 2;
/// Version of what can be looked at: rises whenever it, or the form of the file, may change.
const LOOK_VERSION: u32 = 1;

/// Decimals of the coordinates in an exported run.
const EXPORTED_DECIMALS: i32 = 3;
/// A larger `look.bin` is not exported unless maps are asked for.
const MOST_EXPORTED: usize = 110_000;

/// `measured.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    schema: u32,
    /// BLAKE3 of the embeddings and image tables of both splits.
    embeddings: String,
    /// BLAKE3 of the analysis settings.
    settings: String,
    /// BLAKE3 of the validation images' ids and labels.
    pub(crate) images: String,
    /// By name of the family.
    families: BTreeMap<String, FamilyRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    maps: Option<MapsRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    look: Option<LookRecord>,
    /// BLAKE3 of all the above.
    #[serde(default)]
    blake3: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FamilyRecord {
    version: u32,
    /// Values that JSON cannot hold, infinity and NaN, as text.
    values: Vec<(String, Value)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    intervals: Vec<(String, f64, f64)>,
    /// Which images an accuracy counts as right: their number, and a bit for each, the first in the lowest place of the
    /// first byte, as hexadecimal digits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    right: Vec<(String, usize, String)>,
    #[serde(default)]
    shapes: Shapes,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Value {
    Finite(f64),
    Other(String),
}

/// What belongs to `look.bin`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LookRecord {
    version: u32,
    /// BLAKE3 of `look.bin`.
    file: String,
    /// What it lacks, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

/// What stands beside the coordinates of `maps.csv`, or of `look.bin` in an exported run without it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MapsRecord {
    version: u32,
    /// BLAKE3 of the file with the coordinates.
    file: String,
    pca_ratios: Vec<f64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    /// [`SAMPLE_VERSION`] where t-SNE maps a sample; `None` also for samples before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sample: Option<u32>,
}

/// The columns of `maps.csv`.
const COLUMNS: [&str; 7] = ["id", "label", "pc1", "pc2", "pc3", "tsne1", "tsne2"];
/// Its rows; coordinates that were not laid out are empty.
type MapRow = (String, u32, [Option<f64>; 3], [Option<f64>; 2]);

/// The store of one run. Findings and maps are taken from it, or measured and put into it.
pub(crate) struct Store<'a> {
    run: &'a Run,
    registry: &'a Registry,
    settings: &'a AnalysisConfig,
    pub(crate) record: Record,
    /// Whether the embeddings are there.
    pub(crate) measurable: bool,
    splits: Option<Splits>,
    notes: Vec<String>,
}

impl<'a> Store<'a> {
    /// Reads `measured.json` and drops of it what does not fit the embeddings or the settings.
    ///
    /// # Errors
    /// Neither embeddings nor anything measured; files that cannot be read.
    pub(crate) fn open(run: &'a Run, registry: &'a Registry, settings: &'a AnalysisConfig) -> Result<Self> {
        let embeddings = checksum(run);
        // How many images t-SNE takes decides nothing but the maps, whose record says of how many they are.
        let hashed = AnalysisConfig { tsne_most_points: None, ..settings.clone() };
        let settings_hash = digest(&serde_json::to_vec(&hashed).expect("plain data is always valid JSON"));
        let mut notes = Vec::new();
        let found = match read(&run.folder) {
            Err(problem) if embeddings.is_some() => {
                notes.push(format!("{problem}; it was made again."));
                None
            }
            other => other.map_err(|problem| Error::Measured(run.name.clone(), problem))?,
        };
        let mut splits = None;
        let mut record = match found {
            Some(record) if embeddings.as_ref().is_none_or(|embeddings| *embeddings == record.embeddings) => record,
            other => {
                if other.is_some() {
                    notes.push("what was measured before does not fit the embeddings; it was measured again.".into());
                }
                // Without embeddings there is nothing to go on with: reading them says what is missing.
                let read = read_splits(run)?;
                let images = read.images_digest();
                splits = Some(read);
                Record {
                    schema: SCHEMA,
                    embeddings: embeddings.clone().unwrap_or_default(),
                    settings: settings_hash.clone(),
                    images,
                    ..Record::default()
                }
            }
        };
        if record.settings != settings_hash {
            if embeddings.is_none() {
                let why = "it was measured with other analysis settings than the experiment has now";
                notes.push(format!("{why}, and its embeddings are not there to measure it again."));
            }
            record.settings = settings_hash;
            record.families.clear();
            record.maps = None;
            record.look = None;
        }
        Ok(Self { run, registry, settings, record, measurable: embeddings.is_some(), splits, notes })
    }

    /// What every family found; `say` is called once if anything has to be measured.
    pub(crate) fn findings(&mut self, say: &dyn Fn()) -> Result<Findings> {
        let mut all = Findings { notes: std::mem::take(&mut self.notes), ..Findings::default() };
        let mut measured = false;
        for family in self.registry.families() {
            let known = self.record.families.get(family.name).filter(|known| known.version == family.version);
            let found = match known.and_then(|known| known.findings(self.registry)) {
                Some(found) => found,
                None if self.measurable => {
                    if !std::mem::replace(&mut measured, true) {
                        say();
                    }
                    let (run, settings) = (self.run, self.settings);
                    let found = measure_family(&self.splits()?.subject_of(run, settings), family);
                    self.record.families.insert(family.name.into(), FamilyRecord::of(family, &found));
                    found
                }
                None => {
                    let Family { name, version, .. } = family;
                    let why = format!("it was not measured by version {version} of its code");
                    all.notes.push(format!("no {name}: {why}, and the embeddings are not there."));
                    continue;
                }
            };
            all.append(found);
        }
        // Embeddings are large, and there are many runs.
        self.splits = None;
        if measured {
            write_record(&self.run.folder, &self.record)?;
        }
        Ok(all)
    }

    /// The maps of the validation images; `say` is called if they have to be laid out.
    pub(crate) fn maps(&mut self, say: &dyn Fn()) -> Result<Option<Maps>> {
        let known = self.record.maps.as_ref().filter(|known| known.version == MAPS_VERSION);
        let found = known.map(|known| known.maps(&self.run.folder)).transpose()?.flatten();
        let mapped = |maps: &Maps| maps.tsne.as_ref().map(|places| places.iter().flatten().count());
        let most = self.settings.tsne_most_points.unwrap_or(usize::MAX);
        let sample = known.and_then(|known| known.sample);
        let fits = |maps: &Maps| {
            let (mapped, all) = (mapped(maps), maps.images.ids.len());
            mapped.is_none_or(|count| count == all.min(most) && (count == all || sample == Some(SAMPLE_VERSION)))
        };
        // Without embeddings there are no others.
        let found = found.filter(|maps| !self.measurable || fits(maps));
        if found.is_some() || !self.measurable {
            return Ok(found);
        }
        say();
        let settings = self.settings;
        let maps = self.splits()?.lay_out(settings);
        // The coordinates go first: a record that does not fit them is never used.
        self.record.maps = Some(write_maps(&self.run.folder, &maps, None)?);
        write_record(&self.run.folder, &self.record)?;
        Ok(Some(maps))
    }

    /// What can be looked at image by image; `None` where it is not stored and there are no embeddings to work it out from.
    pub(crate) fn look(&mut self, say: &dyn Fn()) -> Result<Option<Look>> {
        // Embeddings are large, and there are many runs.
        let splits = self.splits.take();
        let known = self.record.look.as_ref().filter(|known| known.version == LOOK_VERSION);
        let found = known.map(|known| known.look(&self.run.folder)).transpose()?.flatten();
        if found.is_some() || !self.measurable {
            return Ok(found);
        }
        say();
        let splits = splits.map_or_else(|| read_splits(self.run), Ok)?;
        // A split without images has no neighbours, and its notes say so.
        let look = Look::of_splits(&splits, &splits.subject_of(self.run, self.settings)).ok();
        if let Some(look) = &look {
            // The file goes first: a record that does not fit it is never used.
            let file = write_look(&self.run.folder, &look::to_bytes(look, look::NEIGHBORS, None))?;
            self.record.look = Some(LookRecord { version: LOOK_VERSION, file, notes: look.notes.clone() });
            write_record(&self.run.folder, &self.record)?;
        }
        Ok(look)
    }

    /// Whether what can be looked at was stored once.
    pub(crate) fn has_look(&self) -> bool {
        self.record.look.is_some()
    }

    fn splits(&mut self) -> Result<&Splits> {
        if self.splits.is_none() {
            self.splits = Some(read_splits(self.run)?);
        }
        Ok(self.splits.as_ref().expect("just read"))
    }

    /// Writes the small part of the run into `folder`: specification, manifest, history and what was measured. Of a run with maps also
    /// what can be looked at, coordinates included, if it takes no more than [`MOST_EXPORTED`] bytes; and all of it, with coordinates of
    /// [`EXPORTED_DECIMALS`], if `with_maps`. The number of bytes.
    pub(crate) fn export(&mut self, folder: &RunFolder, with_maps: bool) -> Result<u64> {
        let mut record = Record { maps: None, look: None, ..self.record.clone() };
        let known = self.record.maps.as_ref().filter(|known| known.version == MAPS_VERSION);
        let sample = known.and_then(|known| known.sample);
        if let Some(maps) = known.map(|known| known.maps(&self.run.folder)).transpose()?.flatten() {
            if with_maps {
                // The sample stays the one that it was.
                record.maps = Some(MapsRecord { sample, ..write_maps(folder, &maps, Some(EXPORTED_DECIMALS))? });
            }
            if let Some(look) = self.look(&|| ())? {
                let bytes = look::to_bytes(&look, look::EXPORTED_NEIGHBORS, (!with_maps).then_some(&maps));
                if with_maps || bytes.len() <= MOST_EXPORTED {
                    let file = write_look(folder, &bytes)?;
                    record.look = Some(LookRecord { version: LOOK_VERSION, file: file.clone(), notes: look.notes });
                    let Maps { pca_ratios, notes, .. } = maps;
                    let of_look = MapsRecord { version: MAPS_VERSION, file, pca_ratios, notes, sample };
                    record.maps = record.maps.or(Some(of_look));
                }
            }
        }
        // What an earlier export wrote and this one does not.
        for (name, stays) in [(MAPS, with_maps && record.maps.is_some()), (LOOK, record.look.is_some())] {
            let path = folder.path().join(name);
            if !stays && path.exists() {
                std::fs::remove_file(&path).map_err(|source| faceoff_runs::Error::Io {
                    action: "remove",
                    path,
                    source,
                })?;
            }
        }
        write_record(folder, &record)?;
        let mut bytes = 0;
        // The manifest comes last: it says that the run is whole.
        for name in ["spec.json", "history.csv", "manifest.json"] {
            let path = self.run.folder.path().join(name);
            if let Some(content) = read_if_there(&path)? {
                write_atomically(&folder.path().join(name), |file| file.write_all(&content))?;
                bytes += content.len() as u64;
            }
        }
        for path in [RECORD, MAPS, LOOK].map(|name| folder.path().join(name)).into_iter().filter(|path| path.exists()) {
            bytes += FileRecord::of(&path)?.bytes;
        }
        Ok(bytes)
    }
}

impl FamilyRecord {
    fn of(family: &Family, found: &Findings) -> Self {
        let value = |of: f64| if of.is_finite() { Value::Finite(of) } else { Value::Other(of.to_string()) };
        let intervals = found.intervals.iter();
        Self {
            version: family.version,
            values: found.values.iter().map(|&(metric, of)| (metric.to_string(), value(of))).collect(),
            intervals: intervals.map(|&(metric, of)| (metric.to_string(), of.low, of.high)).collect(),
            right: found.right.iter().map(|(metric, right)| (metric.to_string(), right.len(), bits(right))).collect(),
            shapes: found.shapes.clone(),
            notes: found.notes.clone(),
        }
    }

    /// `None` if it names a metric that the registry does not know, or holds what is no number.
    fn findings(&self, registry: &Registry) -> Option<Findings> {
        let mut found = Findings { shapes: self.shapes.clone(), notes: self.notes.clone(), ..Findings::default() };
        for (name, value) in &self.values {
            let value = match value {
                Value::Finite(value) => *value,
                Value::Other(text) => text.parse().ok()?,
            };
            found.add(registry.parse(name).ok()?, value);
        }
        for &(ref name, low, high) in &self.intervals {
            found.intervals.push((registry.parse(name).ok()?, Interval { low, high }));
        }
        for (name, images, digits) in &self.right {
            let bytes = hex::decode(digits).ok().filter(|bytes| bytes.len() == images.div_ceil(8))?;
            let right = (0..*images).map(|image| bytes[image / 8] >> (image % 8) & 1 == 1).collect();
            found.right.push((registry.parse(name).ok()?, right));
        }
        Some(found)
    }
}

/// A bit for each, as hexadecimal digits.
fn bits(right: &[bool]) -> String {
    let byte = |eight: &[bool]| eight.iter().rev().fold(0, |byte, &bit| byte << 1 | u8::from(bit));
    hex::encode(right.chunks(8).map(byte).collect::<Vec<u8>>())
}

impl LookRecord {
    /// `None` if the file is missing, or not the one that was written with this record.
    fn look(&self, folder: &RunFolder) -> Result<Option<Look>> {
        let found = read_look(folder, &self.file)?;
        Ok(found.map(|(look, _)| Look { notes: self.notes.clone(), ..look }))
    }
}

impl MapsRecord {
    /// `None` if the file is missing, or not the one that was written with this record.
    fn maps(&self, folder: &RunFolder) -> Result<Option<Maps>> {
        let bytes = read_if_there(&folder.path().join(MAPS))?;
        let Some(bytes) = bytes.filter(|bytes| digest(bytes) == self.file) else {
            let maps = read_look(folder, &self.file)?.and_then(|(_, maps)| maps);
            let (pca_ratios, notes) = (self.pca_ratios.clone(), self.notes.clone());
            return Ok(maps.map(|maps| Maps { pca_ratios, notes, ..maps }));
        };
        let mut maps = Maps { pca_ratios: self.pca_ratios.clone(), notes: self.notes.clone(), ..Maps::default() };
        let (mut pca, mut tsne) = (Vec::new(), Vec::new());
        let pair = |along: [Option<f64>; 2]| Some([along[0]?, along[1]?]);
        for row in csv::Reader::from_reader(&bytes[..]).deserialize::<MapRow>() {
            let Ok((id, label, along_pca, along_tsne)) = row else { return Ok(None) };
            maps.images.ids.push(id);
            maps.images.labels.push(label);
            if let [Some(x), Some(y), Some(z)] = along_pca {
                pca.push([x, y, z]);
            }
            tsne.push(pair(along_tsne));
        }
        let images = maps.images.ids.len();
        maps.pca = (pca.len() == images).then_some(pca);
        maps.tsne = tsne.iter().any(Option::is_some).then_some(tsne);
        Ok(Some(maps))
    }
}

/// Writes `maps.csv`, all digits unless `decimals` says how many.
fn write_maps(folder: &RunFolder, maps: &Maps, decimals: Option<i32>) -> Result<MapsRecord> {
    let factor = decimals.map(|decimals| 10_f64.powi(decimals));
    let number = |value: f64| factor.map_or(value, |factor| (value * factor).round() / factor);
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS).expect("memory takes everything");
    for (image, (id, &label)) in maps.images.ids.iter().zip(&maps.images.labels).enumerate() {
        let pca = maps.pca.as_ref().map_or([None; 3], |pca| pca[image].map(|value| Some(number(value))));
        let tsne = maps.tsne.as_ref().and_then(|tsne| tsne[image]);
        let tsne = tsne.map_or([None; 2], |place| place.map(|value| Some(number(value))));
        let row: MapRow = (id.clone(), label, pca, tsne);
        writer.serialize(row).expect("a row of plain data is written to memory");
    }
    let bytes = writer.into_inner().expect("memory takes everything");
    write_atomically(&folder.path().join(MAPS), |file| file.write_all(&bytes))?;
    let (pca_ratios, notes) = (maps.pca_ratios.clone(), maps.notes.clone());
    let sampled = maps.tsne.as_ref().is_some_and(|places| places.iter().any(Option::is_none));
    let sample = sampled.then_some(SAMPLE_VERSION);
    Ok(MapsRecord { version: MAPS_VERSION, file: digest(&bytes), pca_ratios, notes, sample })
}

/// Writes `look.bin`; its checksum.
fn write_look(folder: &RunFolder, bytes: &[u8]) -> Result<String> {
    write_atomically(&folder.path().join(LOOK), |file| file.write_all(bytes))?;
    Ok(digest(bytes))
}

/// What stands in `look.bin`; `None` if it is missing, not the file of this checksum, or of a form that is not known.
fn read_look(folder: &RunFolder, file: &str) -> Result<Option<(Look, Option<Maps>)>> {
    let bytes = read_if_there(&folder.path().join(LOOK))?.filter(|bytes| digest(bytes) == file);
    Ok(bytes.and_then(|bytes| look::from_bytes(&bytes)).filter(|(look, _)| look::fits(look, look.neighbors.len())))
}

/// Compact: a tenth shorter than with line ends.
fn write_record(folder: &RunFolder, record: &Record) -> Result<()> {
    let record = Record { blake3: record.digest(), ..record.clone() };
    let bytes = serde_json::to_vec(&record).expect("plain data is always valid JSON");
    Ok(write_atomically(&folder.path().join(RECORD), |file| file.write_all(&bytes))?)
}

/// The record of a run, `None` without one; or what is wrong with the file.
fn read(folder: &RunFolder) -> std::result::Result<Option<Record>, String> {
    let path = folder.path().join(RECORD);
    let broken = |problem: String| format!("{} cannot be used ({problem})", path.display());
    let Some(bytes) = read_if_there(&path).map_err(|error| broken(error.to_string()))? else { return Ok(None) };
    let record: Record = serde_json::from_slice(&bytes).map_err(|error| broken(error.to_string()))?;
    match (record.schema, record.digest()) {
        (SCHEMA, found) if found == record.blake3 => Ok(Some(record)),
        (SCHEMA, found) => {
            Err(broken(format!("expected content with BLAKE3 {}, found {found}; it is damaged", record.blake3)))
        }
        (other, _) => Err(broken(format!("its schema is {other}, not {SCHEMA}"))),
    }
}

/// What was measured of a run by these versions of the families, whatever the settings; or why nothing is to be had. Nothing is measured.
pub(crate) fn recorded(run: &Run, registry: &Registry) -> std::result::Result<Findings, String> {
    let record = read(&run.folder)?.ok_or("it was not measured yet")?;
    if checksum(run).is_some_and(|embeddings| embeddings != record.embeddings) {
        return Err("what was measured does not fit its embeddings".into());
    }
    let mut all = Findings::default();
    for family in registry.families() {
        let known = record.families.get(family.name).filter(|known| known.version == family.version);
        known.and_then(|known| known.findings(registry)).into_iter().for_each(|found| all.append(found));
    }
    Ok(all)
}

/// Checks `measured.json`, `maps.csv` and `look.bin` of a run, as far as they are there; what is wrong with them, if anything.
pub fn verify_measured(folder: &RunFolder) -> std::result::Result<(), String> {
    let Some(Record { maps, look, .. }) = read(folder)? else { return Ok(()) };
    for (name, file) in [(MAPS, maps.map(|maps| maps.file)), (LOOK, look.map(|look| look.file))] {
        let path = folder.path().join(name);
        let found = read_if_there(&path).map_err(|error| error.to_string())?.map(|bytes| digest(&bytes));
        if let (Some(expected), Some(found)) = (file, found)
            && expected != found
        {
            return Err(format!("{} is damaged: expected BLAKE3 {expected}, found {found}", path.display()));
        }
    }
    Ok(())
}

impl Record {
    /// BLAKE3 of the content, the field `blake3` left out.
    fn digest(&self) -> String {
        let content = Self { blake3: String::new(), ..self.clone() };
        digest(&serde_json::to_vec(&content).expect("plain data is always valid JSON"))
    }
}

fn read_splits(run: &Run) -> Result<Splits> {
    Splits::read(&run.folder, &run.manifest).map_err(|source| Error::Run(run.name.clone(), source))
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(faceoff_runs::Error::Io { action: "read", path: path.to_path_buf(), source }.into()),
    }
}

/// BLAKE3 over the checksums of the embeddings and image tables of all splits; `None` where they are left out. The files are
/// those of the manifest, which was looked at when the run was chosen.
fn checksum(run: &Run) -> Option<String> {
    let files = &run.manifest.files;
    let splits = SplitName::ALL.into_iter().chain(SplitName::SEEN).map(SplitName::as_str);
    let names = splits
        .map(|split| [format!("images-{split}.csv"), format!("embeddings-{split}.safetensors")])
        .collect::<Vec<_>>();
    let all: String = names.as_flattened().iter().filter_map(|name| Some(files.get(name)?.blake3.as_str())).collect();
    (!run.folder.is_exported(&run.manifest)).then(|| digest(all.as_bytes()))
}

fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}
