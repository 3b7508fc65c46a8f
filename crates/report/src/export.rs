//! What other programs read: TensorBoard's projector and its curves, and a table of the validation images that embedding-atlas or any data frame opens.

use crate::error::Result;
use crate::parquet::parquet;
use crate::pictures::mapped;
use crate::{Extras, sprites, tensorboard};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use faceoff_evaluation::Evaluation;
use faceoff_evaluation::measured::{Maps, Measured, ValImages};
use faceoff_evaluation::tables::Columns;
use faceoff_runs::SplitName;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fmt::Write as _;

/// Side of a picture in the table.
const PICTURE_SIDE_PX: usize = 48;

/// Whom files are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Export {
    /// TensorBoard's projector: `projector/`, embeddings of each variant's first seed with classes and pictures.
    Projector,
    /// `images.parquet`: a row for each validation image under each variant, with its places on the maps, what the head says, and its
    /// picture.
    Parquet,
    /// Event files of TensorBoard: `tensorboard/`, the training curves of every run and what it was measured by.
    Tensorboard,
}

/// The files of an export.
#[derive(Default)]
pub(crate) struct Exported {
    /// Names and contents.
    pub(crate) files: Vec<(String, Vec<u8>)>,
    /// What is not in them, and why.
    pub(crate) notes: Vec<String>,
}

impl Exported {
    pub(crate) fn of(evaluation: &Evaluation, export: Export, extras: &Extras<'_>) -> Result<Self> {
        match export {
            Export::Projector => Ok(projector(evaluation, extras)),
            Export::Tensorboard => Ok(Self { files: tensorboard::event_files(evaluation), notes: Vec::new() }),
            Export::Parquet => {
                let ids = mapped(evaluation).flat_map(|(_, maps)| &maps.images.ids).map(String::as_str).collect();
                let (pictures, notes) = match sprites::single(evaluation, extras, &ids, PICTURE_SIDE_PX) {
                    Ok(pictures) => (pictures, Vec::new()),
                    Err(why) => (HashMap::new(), vec![format!("images.parquet has no pictures. {why}")]),
                };
                let files = vec![("images.parquet".into(), table(evaluation, &pictures)?)];
                Ok(Self { files, notes })
            }
        }
    }
}

fn class<'a>(evaluation: &'a Evaluation, run: &Measured, label: u32) -> &'a str {
    evaluation.selection.variants[run.variant].classes.get(label as usize).map_or("?", String::as_str)
}

fn projector(evaluation: &Evaluation, extras: &Extras<'_>) -> Exported {
    let Exported { mut files, mut notes } = Exported::default();
    let mut tensors: Vec<Value> = Vec::new();
    // Variants with the same images share their pictures.
    let mut sheets: Vec<(&ValImages, Option<Value>)> = Vec::new();
    for (measured, maps) in mapped(evaluation) {
        let Some(run) = evaluation.selection.runs.iter().find(|run| run.name == measured.run) else { continue };
        let images = match run.folder.embeddings(&run.manifest, SplitName::Val) {
            Ok(images) => images,
            Err(error) => {
                notes.push(format!("Not in the projector: {}: {error}.", run.name));
                continue;
            }
        };
        let mut text = String::new();
        for row in images.unit().rows() {
            let cells: Vec<String> = row.iter().map(|value| format!("{value:.5}")).collect();
            let _ = writeln!(text, "{}", cells.join("\t"));
        }
        let name = evaluation.name(measured.variant);
        files.push((format!("projector/{name}.tsv"), text.into_bytes()));
        // A tab or a line's end in a name would be read as a cell's or a row's.
        let plain = |text: &str| text.replace(['\t', '\n', '\r'], " ");
        let mut text = String::from("image\tclass\tsays\n");
        for (at, (id, &label)) in maps.images.ids.iter().zip(&maps.images.labels).enumerate() {
            let says = said(measured, at).map_or("", |(says, _)| class(evaluation, measured, says));
            let _ = writeln!(text, "{}\t{}\t{}", plain(id), plain(class(evaluation, measured, label)), plain(says));
        }
        files.push((format!("projector/{name}-classes.tsv"), text.into_bytes()));
        let mut tensor = json!({
            "tensorName": name,
            "tensorShape": [images.len(), images.dim],
            "tensorPath": format!("{name}.tsv"),
            "metadataPath": format!("{name}-classes.tsv"),
        });
        let known = sheets.iter().position(|(images, _)| **images == maps.images);
        let place = known.unwrap_or_else(|| {
            let ids: Vec<&str> = maps.images.ids.iter().map(String::as_str).collect();
            let sprite = match sprites::of_runs(evaluation, extras, &ids) {
                Ok(Some(found)) if found.sheets.len() == 1 => {
                    let path = format!("images-{}.jpg", sheets.len());
                    let sprite = json!({"imagePath": path, "singleImageDim": [found.side, found.side]});
                    files.extend(found.sheets.into_iter().map(|sheet| (format!("projector/{path}"), sheet)));
                    Some(sprite)
                }
                Ok(None) => None,
                Ok(_) => {
                    notes.push("The projector takes one sheet of pictures, and these would be several.".into());
                    None
                }
                Err(why) => {
                    notes.push(format!("The projector has no pictures. {why}"));
                    None
                }
            };
            sheets.push((&maps.images, sprite));
            sheets.len() - 1
        });
        if let Some(sprite) = &sheets[place].1 {
            tensor["sprite"] = sprite.clone();
        }
        tensors.push(tensor);
    }
    let config = serde_json::to_vec_pretty(&json!({"embeddings": tensors})).expect("plain data is always valid JSON");
    files.push(("projector/projector_config.pbtxt".into(), protobuf_text(&tensors).into_bytes()));
    files.push(("projector/projector_config.json".into(), config));
    Exported { files, notes }
}

/// The configuration as TensorBoard itself reads it; the projector that stands alone reads JSON.
fn protobuf_text(tensors: &[Value]) -> String {
    let mut text = String::new();
    for tensor in tensors {
        text += "embeddings {\n";
        for (field, key) in
            [("tensor_name", "tensorName"), ("tensor_path", "tensorPath"), ("metadata_path", "metadataPath")]
        {
            let _ = writeln!(text, "  {field}: {}", tensor[key]);
        }
        if let Some(sprite) = tensor.get("sprite") {
            let [width, height] = [0, 1].map(|axis| &sprite["singleImageDim"][axis]);
            let _ = writeln!(text, "  sprite {{\n    image_path: {}", sprite["imagePath"]);
            let _ = writeln!(text, "    single_image_dim: {width}\n    single_image_dim: {height}\n  }}");
        }
        text += "}\n";
    }
    text
}

/// What a head says of an image, and how sure it is.
fn said(run: &Measured, at: usize) -> Option<(u32, f64)> {
    let said = run.look.as_ref()?.said.as_ref()?;
    Some((said.classes[at], said.confidences[at]))
}

/// image, class, variant, says, sure, right, tsne1, tsne2, pc1, pc2, pc3, picture (a JPEG as a data URL); empty where it is not known.
fn table(evaluation: &Evaluation, pictures: &HashMap<String, Vec<u8>>) -> Result<Vec<u8>> {
    let pictures: HashMap<&str, String> = pictures
        .iter()
        .map(|(id, file)| (id.as_str(), format!("data:image/jpeg;base64,{}", STANDARD.encode(file))))
        .collect();
    let rows: Vec<(&Measured, &Maps, usize)> =
        mapped(evaluation).flat_map(|(run, maps)| (0..maps.images.ids.len()).map(move |at| (run, maps, at))).collect();
    let tsne = |maps: &Maps, at: usize, axis: usize| maps.tsne.as_ref().and_then(|places| Some(places[at]?[axis]));
    let pca = |maps: &Maps, at: usize, axis: usize| maps.pca.as_ref().map(|places| places[at][axis]);
    let made = Columns::of(&rows)
        .with("image", |(_, maps, at)| maps.images.ids[*at].clone())
        .with("class", |(run, maps, at)| class(evaluation, run, maps.images.labels[*at]).to_string())
        .with("variant", |(run, ..)| evaluation.name(run.variant).to_string())
        .with("says", |(run, _, at)| said(run, *at).map(|(says, _)| class(evaluation, run, says).to_string()))
        .with("sure", |(run, _, at)| said(run, *at).map(|(_, sure)| sure))
        .with("right", |(run, maps, at)| said(run, *at).map(|(says, _)| says == maps.images.labels[*at]))
        .with("tsne1", |(_, maps, at)| tsne(maps, *at, 0))
        .with("tsne2", |(_, maps, at)| tsne(maps, *at, 1))
        .with("pc1", |(_, maps, at)| pca(maps, *at, 0))
        .with("pc2", |(_, maps, at)| pca(maps, *at, 1))
        .with("pc3", |(_, maps, at)| pca(maps, *at, 2))
        .with("picture", |(_, maps, at)| pictures.get(maps.images.ids[*at].as_str()).cloned())
        .frame()
        .and_then(|frame| parquet(&frame));
    made.map_err(|source| crate::Error::Table { table: "images.parquet".into(), source })
}
