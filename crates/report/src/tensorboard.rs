//! Training curves as event files of TensorBoard: records of protocol buffers, each with checksums (CRC-32C) of its length and content.
//!
//! The parts of `tensorflow/core/util/event.proto` and `tensorflow/core/framework/summary.proto` that hold a number, and the framing of
//! `tensorflow/core/lib/io/record_writer.cc`.

use crate::tables::NUMBERS;
use faceoff_evaluation::Evaluation;
use faceoff_evaluation::selection::Run;
use faceoff_runs::EpochRecord;

/// A file for each run, below a folder of its name: TensorBoard shows a folder as a run.
pub(crate) fn event_files(evaluation: &Evaluation) -> Vec<(String, Vec<u8>)> {
    let file = |run: &Run| {
        let measured = evaluation.measured.iter().find(|measured| measured.run == run.name);
        let accuracies =
            evaluation.compared().filter_map(|metric| Some((metric.to_string(), measured?.value(metric)?)));
        (format!("tensorboard/{}/events.out.tfevents.0.faceoff", run.name), events(&run.history, accuracies.collect()))
    };
    evaluation.selection.runs.iter().map(file).collect()
}

/// The curves over steps, and what was measured after the last. Runs have no date, so that the same runs give the same bytes: an epoch
/// takes a second of 1970.
fn events(history: &[EpochRecord], measured: Vec<(String, f64)>) -> Vec<u8> {
    let mut file = Vec::new();
    record(&mut file, &[number(1, 0.0), text(3, b"brain.Event:2")].concat());
    for epoch in history {
        let known = NUMBERS.iter().filter_map(|(name, of)| Some((name.to_string(), of(epoch)?)));
        let state = epoch.head_state.iter().map(|(name, value)| (format!("head/{name}"), *value));
        let last = if epoch.step == history[history.len() - 1].step { &measured[..] } else { &[] };
        let all = known.chain(state).chain(last.iter().map(|(name, value)| (format!("measured/{name}"), *value)));
        let value = |(name, value): (String, f64)| {
            // Of Summary: a value, of which 1 is its tag and 2 the number as f32.
            let simple = [&[0x15][..], &(value as f32).to_le_bytes()].concat();
            text(1, &[text(1, name.as_bytes()), simple].concat())
        };
        let summary: Vec<u8> = all.flat_map(value).collect();
        let step = [vec![0x10], varint(epoch.step as u64)].concat();
        record(&mut file, &[number(1, epoch.epoch as f64), step, text(5, &summary)].concat());
    }
    file
}

/// A field of f64.
fn number(field: u8, value: f64) -> Vec<u8> {
    [&[field << 3 | 1][..], &value.to_le_bytes()].concat()
}

/// A field of bytes or of a message.
fn text(field: u8, bytes: &[u8]) -> Vec<u8> {
    [vec![field << 3 | 2], varint(bytes.len() as u64), bytes.to_vec()].concat()
}

/// Seven bits a byte, the lowest first.
fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7F {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn record(file: &mut Vec<u8>, message: &[u8]) {
    let length = (message.len() as u64).to_le_bytes();
    for part in [&length[..], message] {
        file.extend(part);
        file.extend(masked(crc32c(part)).to_le_bytes());
    }
}

/// A checksum of data that hold checksums is mixed first.
fn masked(checksum: u32) -> u32 {
    checksum.rotate_right(15).wrapping_add(0xA282_EAD8)
}

/// CRC-32C (Castagnoli), bit by bit: files are small.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| sum >> 1 ^ (0x82F6_3B78 & (sum & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_standard() {
        // RFC 3720, B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46DD_794E);
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    }

    #[test]
    fn numbers_are_written_as_protocol_buffers() {
        assert_eq!(varint(300), [0xAC, 0x02]);
        // The file begins with the version that readers ask for.
        let file = events(&[], Vec::new());
        assert_eq!(file[..8], 24_u64.to_le_bytes());
        assert_eq!(&file[12..36], [&[0x09, 0, 0, 0, 0, 0, 0, 0, 0, 0x1A, 13][..], b"brain.Event:2"].concat());
        assert_eq!(file.len(), 8 + 4 + 24 + 4);
        // The checksum of the length 24, by a table-driven CRC-32C.
        assert_eq!(file[8..12], [0xA3, 0x7F, 0x4B, 0x22]);
    }

    #[test]
    fn an_epoch_is_a_record_of_step_time_and_numbers() {
        let epoch = EpochRecord {
            epoch: 2,
            step: 300,
            train_loss: 0.5,
            learning_rate: 0.25,
            effective_scale: 64.0,
            head_state: vec![("t".into(), 0.125)],
            ..EpochRecord::default()
        };
        let file = events(&[epoch], vec![("knn".into(), 0.75)]);
        // Written field by field by the protocol's rules in another language; the checksums by a table-driven CRC-32C.
        let value = |tag: &[u8], number: [u8; 4]| {
            let sizes = [0x0A, 7 + tag.len() as u8, 0x0A, tag.len() as u8];
            [&sizes[..], tag, &[0x15], &number].concat()
        };
        let expected = [
            &[0x73, 0, 0, 0, 0, 0, 0, 0, 0x0D, 0x73, 0x7C, 0xC8][..],
            &[0x09, 0, 0, 0, 0, 0, 0, 0, 0x40, 0x10, 0xAC, 0x02, 0x2A, 0x65],
            &value(b"train_loss", [0, 0, 0, 0x3F]),
            &value(b"learning_rate", [0, 0, 0x80, 0x3E]),
            &value(b"effective_scale", [0, 0, 0x80, 0x42]),
            &value(b"head/t", [0, 0, 0, 0x3E]),
            &value(b"measured/knn", [0, 0, 0x40, 0x3F]),
            &[0x27, 0x5F, 0x03, 0xF2],
        ];
        assert_eq!(file[40..], expected.concat());
    }
}
