//! The data sets that are known by name. Each is one profile; nothing else in the program knows one of them.
//!
//! To add a data set, add its profile to [`PROFILES`] and a test.

use crate::{Error, Result};
use faceoff_runs::{EMBEDDINGS, SYNTHETIC, did_you_mean};

/// What is known of a data set before it is there.
#[derive(Debug)]
pub struct Profile {
    /// Its name in experiment files.
    pub name: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// How it is had.
    pub origin: Origin,
    /// The file beside its images that lists all of them with their labels, noisy ones too; checked where it lies there.
    pub list: Option<&'static str>,
    /// Names of its class folders, sorted, where these are not the classes' names.
    pub class_folders: &'static [&'static str],
    /// Names of its classes for people, in the order of the folders; empty where only the folders tell.
    pub class_names: &'static [&'static str],
    /// Training and validation images, where they are always as many.
    pub images: Option<[usize; 2]>,
    /// Side in pixels that the shorter side of its images has, where it is published in several sizes.
    pub shorter_side_px: Option<u32>,
    /// MiB on the disk: archive, files, and the decoded images.
    pub disk_mib: u64,
    /// What a reader of results has to know of it.
    pub notes: &'static [&'static str],
}

/// How a data set is had.
#[derive(Debug)]
pub enum Origin {
    /// A published .tgz of one folder with `train/<class>/` and `val/<class>/`.
    Archive {
        /// Its address.
        url: &'static str,
        /// The md5 that it must have, in hexadecimal.
        md5: &'static str,
    },
    /// A folder that the user names.
    Folder,
    /// Embeddings of another model, which the user names.
    Embeddings,
    /// Made on the fly, as `[data.synthetic]` says.
    Made,
    /// By candle-datasets, which only builds with the feature `extra-datasets` hold.
    CandleDatasets {
        /// Loads it from a folder with its original files, or from the hub.
        #[cfg(feature = "extra-datasets")]
        load: crate::extra::Load,
    },
}

/// Imagewoof's list, which the synthetic set and folders laid out like Imagewoof have too.
pub(crate) const LIST: &str = "noisy_imagewoof.csv";

/// Nothing known but how it is had.
const FOLDER: Profile = Profile {
    name: "folder",
    title: "Images of a folder",
    origin: Origin::Folder,
    list: Some(LIST),
    class_folders: &[],
    class_names: &[],
    images: None,
    shorter_side_px: None,
    disk_mib: 0,
    notes: &[],
};

/// Published by fast.ai in several sizes of the same images; the md5 are Catalyst's.
#[rustfmt::skip] // lists of names
const IMAGEWOOF: Profile = Profile {
    name: "imagewoof2-160",
    title: "Imagewoof, shortest side 160 px",
    origin: Origin::Archive {
        url: "https://s3.amazonaws.com/fast-ai-imageclas/imagewoof2-160.tgz",
        md5: "3d200a7be99704a0d7509be2a9fbfe15",
    },
    list: Some(LIST),
    class_folders: &[
        "n02086240", "n02087394", "n02088364", "n02089973", "n02093754",
        "n02096294", "n02099601", "n02105641", "n02111889", "n02115641",
    ],
    class_names: &[
        "Shih-Tzu", "Rhodesian ridgeback", "beagle", "English foxhound", "Border terrier",
        "Australian terrier", "golden retriever", "Old English sheepdog", "Samoyed", "dingo",
    ],
    images: Some([9_025, 3_929]),
    shorter_side_px: Some(160),
    disk_mib: 1_600,
    notes: &[
        "Three pairs of files of Imagewoof are byte-identical under two different labels, two of them across the split. The official split \
         is kept, so no accuracy can reach 100 %.",
        "English foxhound is small (580 training and 224 validation images of 9,025 and 3,929): macro accuracy, in which every class \
         counts alike, stands beside accuracy.",
    ],
};

/// Tens of thousands of small images, which are written as PNG, a file each.
const SMALL_IMAGES: Profile = Profile { list: None, disk_mib: 500, ..FOLDER };

/// All data sets.
#[rustfmt::skip] // lists of names
pub static PROFILES: [Profile; 8] = [
    IMAGEWOOF,
    Profile {
        name: "imagewoof2-320",
        title: "Imagewoof, shortest side 320 px",
        origin: Origin::Archive {
            url: "https://s3.amazonaws.com/fast-ai-imageclas/imagewoof2-320.tgz",
            md5: "0f46d997ec2264e97609196c95897a44",
        },
        shorter_side_px: Some(320),
        disk_mib: 6_400,
        ..IMAGEWOOF
    },
    FOLDER,
    Profile { name: EMBEDDINGS, title: "Embeddings of another model", origin: Origin::Embeddings, list: None, ..FOLDER },
    Profile { name: SYNTHETIC, title: "Made-up stripes in ten classes that resemble their neighbours", origin: Origin::Made, ..FOLDER },
    Profile {
        name: "cifar10",
        title: "CIFAR-10",
        origin: Origin::CandleDatasets { #[cfg(feature = "extra-datasets")] load: crate::extra::cifar10 },
        class_names: &["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
        images: Some([50_000, 10_000]),
        ..SMALL_IMAGES
    },
    Profile {
        name: "mnist",
        title: "MNIST",
        origin: Origin::CandleDatasets { #[cfg(feature = "extra-datasets")] load: crate::extra::mnist },
        class_names: &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
        images: Some([60_000, 10_000]),
        ..SMALL_IMAGES
    },
    Profile {
        name: "fashion-mnist",
        title: "Fashion-MNIST",
        origin: Origin::CandleDatasets { #[cfg(feature = "extra-datasets")] load: crate::extra::fashion_mnist },
        class_names: &["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"],
        images: Some([60_000, 10_000]),
        ..SMALL_IMAGES
    },
];

/// The profile of that name.
pub fn profile(name: &str) -> Result<&'static Profile> {
    PROFILES.iter().find(|profile| profile.name == name).ok_or_else(|| {
        let known: Vec<_> = PROFILES.iter().map(|profile| profile.name).collect();
        let hint = did_you_mean(name, known.iter().copied());
        Error::setting("data.dataset", name, format!("there is no such data set; there are {}{hint}", known.join(", ")))
    })
}

impl Profile {
    /// The name of a class for people.
    pub(crate) fn class_name(&self, folder: &str) -> String {
        let place = self.class_folders.iter().position(|known| *known == folder);
        place.map_or(folder, |place| self.class_names[place]).to_string()
    }
}
