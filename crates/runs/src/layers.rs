//! An experiment file and those that it extends, merged key by key; every value still knows the file and line where it stands.
//!
//! The texts are counted through: each is parsed behind as many blanks as those before it have bytes, so that one position
//! says both the file and the place in it.

use crate::error::did_you_mean;
use crate::{Error, Result};
use serde::de::DeserializeOwned;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A file, its text behind blanks up to `start`.
struct Layer {
    path: PathBuf,
    start: usize,
    text: String,
}

/// A file, then the one that it extends, and so on.
pub(crate) struct Layers(Vec<Layer>);

impl Layers {
    /// The file at `path`, whose text is given, with those that it extends: beside it, or else among `built_in` names and texts.
    pub(crate) fn read(text: &str, path: &Path, built_in: &[(&str, &str)]) -> Result<Self> {
        let mut layers = Self(Vec::new());
        let mut next = Some((path.to_path_buf(), text.to_string()));
        while let Some((path, text)) = next {
            let start = layers.0.last().map_or(0, |layer| layer.text.len());
            layers.0.push(Layer { path, start, text: " ".repeat(start) + &text });
            next = layers.extended(built_in)?;
        }
        Ok(layers)
    }

    /// Path and text of the file that the last one extends.
    fn extended(&self, built_in: &[(&str, &str)]) -> Result<Option<(PathBuf, String)>> {
        let last = &self.0[self.0.len() - 1];
        let table = self.parse(last)?;
        let Some(value) = table.get("extends") else { return Ok(None) };
        let refused = |problem: &str| self.error(Some(value.span()), problem);
        let name = value.get_ref().as_str().ok_or_else(|| {
            refused("`extends` must be the name of an experiment in the same folder, or its path from there, without `.toml`")
        })?;
        let path = last.path.with_file_name(format!("{name}.toml"));
        let text = match built_in.iter().find(|(known, _)| *known == name) {
            Some((_, text)) if !path.exists() => (*text).to_string(),
            _ => std::fs::read_to_string(&path).map_err(|error| {
                refused(&format!("`extends` is `{name}`, but {} cannot be read: {error}", path.display()))
            })?,
        };
        let same = |layer: &Layer| {
            layer.path == path
                || layer.path.canonicalize().is_ok_and(|same| path.canonicalize().is_ok_and(|path| same == path))
        };
        if self.0.iter().any(same) {
            return Err(refused(&format!("`extends` leads in a circle, back to {}", path.display())));
        }
        Ok(Some((path, text)))
    }

    fn parse<'a>(&self, layer: &'a Layer) -> Result<DeTable<'a>> {
        let table = DeTable::parse(&layer.text).map_err(|error| self.error(error.span(), error.message()))?;
        Ok(table.into_inner())
    }

    fn merged(&self) -> Result<DeTable<'_>> {
        let mut merged = DeTable::new();
        for layer in self.0.iter().rev() {
            let mut table = self.parse(layer)?;
            table.remove("extends");
            overlay(&mut merged, table);
        }
        Ok(merged)
    }

    /// The merged file as a value.
    pub(crate) fn deserialize<T: DeserializeOwned>(&self) -> Result<T> {
        let merged = Spanned::new(0..0, self.merged()?);
        T::deserialize(toml::Deserializer::from(merged))
            .map_err(|error| self.error(error.span(), &explained(error.message())))
    }

    /// The error with the file and line of the key that it is about.
    pub(crate) fn located(&self, error: Error) -> Error {
        let span = match &error {
            Error::Value { key, .. } => self.span(key),
            _ => None,
        };
        self.error(span, &error.to_string())
    }

    /// The file that a key, e.g. `training.epochs`, comes from; `None` where it is the first one or none.
    pub(crate) fn lower_file_of(&self, key: &str) -> Option<&Path> {
        let layer = self.layer(self.span(key)?.start);
        (layer.start > 0).then_some(layer.path.as_path())
    }

    /// Where the value of a key stands, or that of the table that it is missing from.
    fn span(&self, key: &str) -> Option<Range<usize>> {
        let merged = self.merged().ok()?;
        let (mut table, mut span) = (&merged, None);
        for name in key.split('.') {
            let Some(value) = table.get(name) else { break };
            span = Some(value.span());
            let DeValue::Table(inner) = value.get_ref() else { break };
            table = inner;
        }
        span
    }

    fn layer(&self, position: usize) -> &Layer {
        self.0.iter().rfind(|layer| layer.start <= position).expect("the first begins at 0")
    }

    fn error(&self, span: Option<Range<usize>>, problem: &str) -> Error {
        let span = span.unwrap_or(0..0);
        let layer = self.layer(span.start);
        let before = &layer.text[layer.start..span.start.min(layer.text.len())];
        let message = match span.end {
            0 => problem.to_string(),
            _ => {
                let line = before.matches('\n').count();
                let text = layer.text[layer.start..].lines().nth(line).unwrap_or_default().trim();
                format!("line {}, `{text}`: {problem}", line + 1)
            }
        };
        Error::Parse { path: layer.path.clone(), message }
    }
}

/// Puts `upper` over `lower`: tables key by key, everything else as a whole. `false` removes what is no boolean below.
fn overlay<'a>(lower: &mut DeTable<'a>, upper: DeTable<'a>) {
    for (key, value) in upper {
        let span = value.span();
        let value = match (lower.remove(&key).map(Spanned::into_inner), value.into_inner()) {
            (Some(DeValue::Table(mut below)), DeValue::Table(above)) => {
                overlay(&mut below, above);
                DeValue::Table(below)
            }
            (Some(below), DeValue::Boolean(false)) if !below.is_bool() => continue,
            (_, above) => above,
        };
        lower.insert(key, Spanned::new(span, value));
    }
}

/// The parser's message; behind one about an unknown name the nearest of the known ones that it lists.
fn explained(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    match quoted.next() {
        Some(unknown) if message.starts_with("unknown ") => message.to_string() + &did_you_mean(unknown, quoted),
        _ => message.into(),
    }
}
