//! Matrices of other programs.

use faceoff_runs::{BLOCK_BYTES, NpyMatrix};

#[test]
fn more_than_a_block_is_read_whole_in_either_order() {
    let (rows, columns) = (1031, 1033);
    assert!(8 * rows * columns > BLOCK_BYTES);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.npy");
    for by_columns in [false, true] {
        let order = if by_columns { "True" } else { "False" };
        let header = format!("{{'descr': '<f8', 'fortran_order': {order}, 'shape': ({rows}, {columns}), }}");
        let header = format!("{header:<117}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.bytes());
        // Row by row the numbers rise by one.
        let number = |stored: usize| if by_columns { stored % rows * columns + stored / rows } else { stored };
        bytes.extend((0..rows * columns).flat_map(|stored| (number(stored) as f64).to_le_bytes()));
        std::fs::write(&path, bytes).unwrap();
        let all = NpyMatrix::open(&path).unwrap().read_all().unwrap();
        assert!(all.iter().enumerate().all(|(place, &value)| value == place as f64), "{order}");
    }
}
