//! A table as Parquet, uncompressed: the writer of polars itself brings four compressors along, two of them in C.

use polars::prelude::{ArrowDataType, ArrowField, CompatLevel, DataFrame, PolarsResult, SchemaExt};
use polars_parquet::write::{
    CompressionOptions, Encoding, FileWriter, RowGroupIterator, StatisticsOptions, Version, WriteOptions,
};

/// The bytes of the file: one row group.
pub(crate) fn parquet(frame: &DataFrame) -> PolarsResult<Vec<u8>> {
    let mut frame = frame.clone();
    frame.rechunk_mut();
    let schema = frame.schema().to_arrow(CompatLevel::oldest());
    let options = WriteOptions {
        statistics: StatisticsOptions::default(),
        version: Version::V1,
        compression: CompressionOptions::Uncompressed,
        data_page_size: None,
    };
    // Names and pictures come many times, each is written once.
    let encoding = |field: &ArrowField| match field.dtype() {
        ArrowDataType::LargeUtf8 | ArrowDataType::Utf8View => Encoding::RleDictionary,
        _ => Encoding::Plain,
    };
    let encodings: Vec<Vec<Encoding>> = schema.iter_values().map(|field| vec![encoding(field)]).collect();
    let batches = frame.iter_chunks(CompatLevel::oldest(), false).map(Ok);
    let groups = RowGroupIterator::try_new(batches, &schema, options, encodings.into())?;
    let mut writer = FileWriter::try_new(Vec::new(), schema, options)?;
    for group in groups {
        writer.write(frame.height() as u64, group?)?;
    }
    writer.end(None)?;
    Ok(writer.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use faceoff_evaluation::tables::Columns;

    #[test]
    fn a_table_is_read_back() {
        let frame = Columns::of(&[(1.5, Some("one")), (f64::INFINITY, None)])
            .with("number", |row| row.0)
            .with("text", |row| row.1)
            .frame()
            .unwrap();
        let bytes = parquet(&frame).unwrap();
        let metadata = polars_parquet::read::read_metadata(&mut std::io::Cursor::new(&bytes)).unwrap();
        assert_eq!(metadata.num_rows, 2);
        let names: Vec<_> = metadata.schema().fields().iter().map(|field| field.name().to_string()).collect();
        assert_eq!(names, ["number", "text"]);
        assert!(bytes.windows(8).any(|at| at == 1.5_f64.to_le_bytes()));
    }
}
