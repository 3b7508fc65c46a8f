//! Experiments that are made to fit few images, and images of one's own in the place of an experiment's.

use faceoff_runs::{Experiment, FOLDER, Sampler, Sizes};
use std::path::{Path, PathBuf};

fn load(name: &str) -> Experiment {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments");
    Experiment::load(&folder, name).unwrap()
}

const MANY: Sizes = Sizes {
    train_images: 9_025,
    classes: 10,
    smallest_class: 580,
    compared: 9_025,
    smallest_compared: 580,
    largest_compared: 1_000,
    val_images: 3_929,
};

#[test]
fn an_experiment_that_fits_stays_as_it_is() {
    for name in ["quick", "heads-all", "imagewoof"] {
        let (adapted, said) = load(name).adapted(&MANY, 512).unwrap();
        assert_eq!((adapted, said), (load(name), Vec::new()));
    }
}

#[test]
fn what_few_images_do_not_allow_is_changed_and_said() {
    let few = Sizes {
        train_images: 40,
        classes: 12,
        smallest_class: 3,
        compared: 40,
        smallest_compared: 3,
        largest_compared: 9,
        val_images: 13,
    };
    let (quick, said) = load("quick").adapted(&few, 512).unwrap();
    assert_eq!(quick.training.batch_size, 32);
    assert_eq!(
        (quick.analysis.headline_neighbors, &quick.analysis.knn_neighbors[..]),
        (3, &[1, 2, 3, 4, 5, 6, 7, 8, 9][..])
    );
    assert_eq!((quick.analysis.headline_components, &quick.analysis.pca_components[..]), ([16, 40], &[16][..]));
    assert_eq!(quick.analysis.tsne_perplexity, 4.0);
    let said = said.join("\n");
    for part in [
        "40 images to compare with have no more",
        "A batch has 32 images instead of 64: there are 40 training images.",
        "3 neighbours instead of 5",
        "ends at 9 neighbours instead of 50",
        "[16, 40] principal components instead of [16, 128]",
        "perplexity 4.0 instead of 30",
    ] {
        assert!(said.contains(part), "{said} lacks {part}");
    }
    let (_, said) = load("quick").adapted(&MANY, 64).unwrap();
    assert!(said[0].contains("embeddings of 64 numbers have no more"), "{said:?}");
    // 32 images a batch as pairs of 12 classes with at most 3 images: 10 classes of 3.
    let (all, said) = load("heads-all").adapted(&few, 512).unwrap();
    let samplers: Vec<Sampler> = all.heads.iter().filter_map(|variant| variant.sampler).collect();
    assert_eq!(samplers, [Sampler { classes: 10, images: 3 }; 2]);
    assert_eq!(all.training.batch_size, 30);
    assert!(said[1].contains("instead of { classes = 8, images = 8 }"), "{said:?}");
    // Without two images of a class there are no pairs.
    let (all, said) = load("heads-all").adapted(&Sizes { smallest_class: 1, ..few }, 512).unwrap();
    assert!(all.heads.iter().all(|variant| variant.sampler.is_none()));
    assert_eq!(all.heads.len() + 2, load("heads-all").heads.len());
    assert!(said.iter().any(|sentence| sentence.contains("are left out, for want of pairs")), "{said:?}");
    // So few that both numbers of components would be one.
    let (tiny, _) = load("quick").adapted(&Sizes { compared: 7, train_images: 7, ..few }, 512).unwrap();
    assert_eq!((tiny.analysis.headline_components, tiny.training.batch_size), ([4, 7], 4));
    assert!(load("quick").adapted(&Sizes { train_images: 1, ..few }, 512).unwrap().0.training.batch_size == 64);
}

#[test]
fn an_experiment_on_images_of_ones_own_has_its_name_of_them_and_nothing_of_the_published_set() {
    let own = load("quick").on_own_images("Mes photos", "Mes-photos").unwrap();
    assert_eq!((own.name.as_str(), own.data.dataset.as_str()), ("Mes-photos-quick", FOLDER));
    assert!(own.description.contains("Mes photos") && !own.description.contains("Imagewoof"));
    assert!(!own.data.synthetic_fallback && own.data.synthetic.is_none());
    assert_eq!(Experiment::parse(&own.to_toml(), Path::new("own.toml")).unwrap(), own);
    // The published set's specification does not know the split.
    assert!(!load("quick").to_toml().contains("[data.own]"));
    for (change, part) in [
        ("validation_share = 0.2", "validation_share = 0.0"),
        ("name = \"Mes photos\"", "name = \" \""),
        ("dataset = \"folder\"", "dataset = \"imagewoof2-160\""),
        ("label_noise_percent = 0", "label_noise_percent = 5"),
    ] {
        let text = own.to_toml();
        assert!(text.contains(change), "{text}");
        let message = Experiment::parse(&text.replace(change, part), Path::new("own.toml")).unwrap_err().to_string();
        let rules = ["must", "goes with", "have no noisy labels"];
        assert!(rules.iter().any(|rule| message.contains(rule)), "{message}");
    }
    assert!(load("label-noise").on_own_images("a", "a").unwrap_err().to_string().contains("have no noisy labels"));
    let mut none = load("quick");
    none.own_split = None;
    assert!(none.on_own_images("a", "a").unwrap_err().to_string().contains("extend `quick`"));
}
