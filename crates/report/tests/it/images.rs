//! Thumbnails for tests.

use faceoff_report::Thumbnails;

/// Every image in a colour of its own.
pub(crate) struct Plain(pub(crate) Vec<String>);

impl Thumbnails for Plain {
    fn fingerprints(&self) -> Vec<String> {
        vec!["f1".into()]
    }

    fn each(&self, side: usize, take: &mut dyn FnMut(&str, &[u8])) -> Result<(), String> {
        for (index, id) in self.0.iter().enumerate() {
            take(id, &[(index * 37) as u8, (index * 91) as u8, (index * 53) as u8].repeat(side * side));
        }
        Ok(())
    }
}
