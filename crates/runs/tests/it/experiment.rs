//! Experiment files: the committed ones are valid, wrong ones are answered with value, rule and remedy.

use faceoff_runs::{
    Averaging, Compute, Error, Experiment, ExperimentFile, Flip, HeadConfig, Overrides, Precision, RunSpec, Sampler,
    parse_integers,
};
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments")
}

pub(crate) fn smoke() -> Experiment {
    Experiment::load(&folder(), "smoke").unwrap()
}

pub(crate) fn compute() -> Compute {
    Compute { device: "cpu".into(), kernels: "avx2".into() }
}

fn smoke_text() -> String {
    smoke().to_toml()
}

/// `smoke.toml` with `to` in the place of `from`.
fn changed(from: &str, to: &str) -> Result<Experiment, Error> {
    let text = smoke_text();
    assert!(text.contains(from), "{from} is not in smoke.toml");
    Experiment::parse(&text.replacen(from, to, 1), Path::new("smoke.toml"))
}

fn message(from: &str, to: &str) -> String {
    changed(from, to).unwrap_err().to_string()
}

#[test]
fn committed_experiments_load() {
    let names = Experiment::names(&folder()).unwrap();
    for name in ["quick", "imagewoof", "smoke"] {
        assert!(names.iter().any(|known| known == name), "{name} is missing");
    }
    for name in names {
        Experiment::load(&folder(), &name).unwrap();
    }
}

#[test]
fn writing_and_reading_toml_changes_nothing() {
    let experiment = smoke();
    assert_eq!(Experiment::parse(&experiment.to_toml(), Path::new("smoke.toml")).unwrap(), experiment);
}

#[test]
fn lists_of_a_head_multiply() {
    let lists = "scale = [16, 64.5]\nmargin_cosine = [0.0, 0.35]";
    let experiment = changed("margin_cosine = 0.35\nscale = 64.0", lists).unwrap();
    let names: Vec<_> = experiment.heads.iter().map(|head| head.name.as_str()).collect();
    let grid = ["CosFace-s16-m0", "CosFace-s16-m0.35", "CosFace-s64.5-m0", "CosFace-s64.5-m0.35"];
    assert_eq!(names[2..6], grid);
    assert_eq!(experiment.heads[4].head, HeadConfig::new("CosFace").with("scale", 64.5).with("margin_cosine", 0.0));
    assert_eq!(experiment.heads.len(), 10);
    let experiment = changed("sub_centers = 3", "sub_centers = [1, 3]").unwrap();
    assert_eq!(experiment.heads[6].name, "SubCenterArcFace-sub_centers3");
    assert_eq!(experiment.heads[6].head.get("sub_centers"), Some(&3.into()));
    let experiment = changed("beyond_pi = \"catalyst\"", "beyond_pi = [\"catalyst\", \"linear\"]").unwrap();
    assert_eq!([&experiment.heads[3].name, &experiment.heads[4].name], ["ArcFace-catalyst", "ArcFace-linear"]);
    assert!(message("margin_cosine = 0.35", "margin_cosine = []").contains("empty list"));
    let message = message("margin_cosine = 0.35", "margin_cosine = [\"x\", 0.1]");
    assert!(message.contains("a number, a text or a list of either"), "{message}");
}

/// What is not set stands in no specification, so that those of before stay what they were.
#[test]
fn a_head_may_have_its_own_sampler() {
    let kind = "kind = \"Classification\"";
    let own = |sampler: &str| changed(kind, &format!("{kind}\nsampler = {sampler}"));
    let specs = RunSpec::of(&own("{ classes = 4, images = 4 }").unwrap(), &compute());
    assert_eq!(specs[0].training.sampler, Some(Sampler { classes: 4, images: 4 }));
    assert_eq!(specs[0].variant.sampler, None);
    assert_eq!(specs[1..], RunSpec::of(&smoke(), &compute())[1..]);
    assert!(!serde_json::to_string(&specs[1]).unwrap().contains("sampler"));
    for sampler in ["{ classes = 4, images = 3 }", "{ classes = 16, images = 1 }"] {
        let refused = own(sampler).unwrap_err().to_string();
        assert!(refused.contains(sampler) && refused.contains("their product training.batch_size"), "{refused}");
    }
}

#[test]
fn a_head_may_have_its_own_learning_rate() {
    let kind = "kind = \"Classification\"";
    let own_rate = |rate: &str| changed(kind, &format!("{kind}\npeak_learning_rate = {rate}"));
    let specs = RunSpec::of(&own_rate("0.5").unwrap(), &compute());
    assert_eq!(specs[0].training.peak_learning_rate, 0.5);
    assert_eq!(specs[1].training.peak_learning_rate, smoke().training.peak_learning_rate);
    // The same training under the same name is the same run, wherever the number stood.
    assert_eq!(specs[1..], RunSpec::of(&smoke(), &compute())[1..]);
    assert!(own_rate("0.0").unwrap_err().to_string().contains("above 0"));
}

#[test]
fn unknown_keys_are_named() {
    let text = message("epochs = ", "epoch = 3\nepochs = ");
    assert!(text.contains("unknown field `epoch`") && text.ends_with("; did you mean `epochs`?"), "{text}");
    assert!(text.starts_with("smoke.toml: line ") && text.contains(", `epoch = 3`: "), "{text}");
    assert!(!message("epochs = ", "qqqqqqqq = 3\nepochs = ").contains("did you mean"));
    assert!(message("engine = \"fast\"", "engine = \"fats\"").contains("did you mean `fast`?"));
}

#[test]
fn values_out_of_range_are_explained() {
    for (from, to, expected) in [
        ("epochs = 2", "epochs = 0", "`training.epochs` is 0, but it must lie in 1 ..= 100000"),
        ("tsne_iterations = 1000", "tsne_iterations = 18446744073709551615", "1 ..= 100000"),
        ("batch_size = 16", "batch_size = 1", "batch norm needs at least 2 images"),
        ("seeds = [0]", "seeds = [3, 3]", "`training.seeds` is 3, but each seed may stand only once"),
        ("seeds = [0]", "seeds = []", "at least one seed"),
        ("image_size_px = 32", "image_size_px = 8", "16 ..= 1024"),
        ("label_noise_percent = 0", "label_noise_percent = 7", "0, 1, 5, 25 and 50"),
        ("crop_scale = [0.35, 1.0]", "crop_scale = [0.9, 0.35]", "0.001 <= low <= high <= 1"),
        ("flip_probability = 0.5", "flip_probability = 1.5", "it must lie in [0, 1]"),
        ("flip_probability = 0.5", "flip_probability = 0.4\nflip = \"alternating\"", "set it to 0.5"),
        (
            "epochs = 2",
            "epochs = 2\nprogressive_resizing = [[0.1, 32]]",
            "[[0.1, 32]], but it must list [share of the steps",
        ),
        ("epochs = 2", "epochs = 2\nprogressive_resizing = [[0, 32], [0, 64]]", "each above the one before"),
        ("epochs = 2", "epochs = 2\nprogressive_resizing = [[0, 32], [1, 64]]", "and below 1"),
        ("epochs = 2", "epochs = 2\nprogressive_resizing = [[0, 8]]", "each side must lie in 16 ..= 1024 pixels"),
        (
            "epochs = 2",
            "epochs = 2\nlabel_smoothing = 1.0",
            "`training.label_smoothing` is 1, but it must lie in [0, 1)",
        ),
        ("epochs = 2", "epochs = 2\nlabel_smoothing = 0.1\nclass_sampling = 0.5", "leave one of the two out"),
        (
            "epochs = 2",
            "epochs = 2\nema = { decay = 1.0, every_steps = 1 }",
            "{ decay = 1, every_steps = 1 }, but decay must",
        ),
        ("epochs = 2", "epochs = 2\nema = { decay = 0.9, every_steps = 0 }", "every_steps in 1 ..= 100000"),
        ("knn_neighbors = [1, 5, 20]", "knn_neighbors = []", "at least 1"),
        ("headline_neighbors = 5", "headline_neighbors = 0", "`analysis.headline_neighbors` is 0"),
        ("vote_temperature = 0.07", "vote_temperature = 0.0", "finite number above 0"),
        ("precision = \"f32\"", "precision = \"f16\"", "expected one of `f32`, `tf32`, `bf16`"),
        ("trials = 2", "trials = 0", "`tuning.trials` is 0"),
        ("margin_cosine = [0.0, 0.35]", "margin_cosine = [0.4, 0.35]", "low <= high"),
        ("name = \"smoke\"", "name = \"../smoke\"", "it must be letters, digits"),
    ] {
        let text = message(from, to);
        assert!(text.contains(expected), "{to}: {text}");
        let named = to.lines().any(|line| text.contains(line));
        assert!(text.starts_with("smoke.toml: line ") && named, "{to}: {text}");
    }
}

/// Sides begin with the first step that a share has passed; the shares of the steps that see them add up to all.
#[test]
fn progressive_resizing_gives_every_step_its_side() {
    let stages = "epochs = 2\nprogressive_resizing = [[0, 32], [0.5, 48], [0.8, 64]]";
    let training = changed("epochs = 2", stages).unwrap().training;
    let sides: Vec<usize> = (0..10).map(|step| training.side_px(step, 10, 99)).collect();
    assert_eq!(sides, [32, 32, 32, 32, 32, 48, 48, 48, 64, 64]);
    let shares = training.sides_px(99);
    let expected = [(32, 0.5), (48, 0.3), (64, 0.2)];
    assert!(shares.iter().zip(expected).all(|(one, other)| one.0 == other.0 && (one.1 - other.1).abs() < 1e-12));
    let plain = smoke().training;
    assert_eq!((plain.side_px(3, 10, 99), plain.sides_px(99)), (99, vec![(99, 1.0)]));
}

#[test]
fn unknown_experiments_list_the_known_ones() {
    let error = Experiment::load(&folder(), "quik").unwrap_err();
    assert!(matches!(error, Error::UnknownExperiment { .. }));
    assert!(error.to_string().contains("imagewoof, label-noise, parity, quick"), "{error}");
    assert!(error.to_string().ends_with("did you mean `quick`?"), "{error}");
    assert!(Experiment::load(&folder(), "../experiments/quick").is_err());
}

#[test]
fn overrides_choose_heads_by_name_or_kind() {
    let overrides = Overrides {
        heads: Some(vec!["arcface".into(), "Classification".into()]),
        seeds: Some(vec![7]),
        epochs: Some(9),
        image_size_px: Some(48),
        precision: Some(Precision::Tf32),
    };
    let experiment = smoke().with_overrides(&overrides).unwrap();
    let names: Vec<_> = experiment.heads.iter().map(|variant| variant.name.as_str()).collect();
    assert_eq!(names, ["Classification", "ArcFace"]);
    assert_eq!((experiment.training.epochs, experiment.data.image_size_px), (9, 48));
    assert_eq!((experiment.training.seeds, experiment.training.precision), (vec![7], Precision::Tf32));
    assert!("tf16".parse::<Precision>().unwrap_err().to_string().contains("`f32`, `tf32` or `bf16`"));

    let wrong = Overrides { heads: Some(vec!["ArcFaces".into()]), ..Overrides::default() };
    let text = smoke().with_overrides(&wrong).unwrap_err().to_string();
    assert!(text.contains("no head `ArcFaces`") && text.contains("SubCenterArcFace"), "{text}");
}

/// Writes `<name>.toml` into `folder`, with its name in it.
fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(format!("{name}.toml")), format!("name = \"{name}\"\n{text}")).unwrap();
}

#[test]
fn experiments_extend_one_another() {
    let folder = tempfile::tempdir().unwrap();
    let load = |name: &str| Experiment::load(folder.path(), name);
    write(folder.path(), "base", smoke_text().split_once('\n').unwrap().1);
    let middle = "extends = \"base\"\n[training]\nepochs = 7\nseeds = \"0..3\"\n[[heads]]\nkind = \"Classification\"\n";
    write(folder.path(), "middle", middle);
    let top = "extends = \"middle\"\ntuning = false\n[training]\nepochs = 9\n[data]\nimages_per_split = false\n";
    write(folder.path(), "top", top);
    let mut expected = Experiment { name: "top".into(), tuning: None, ..smoke() };
    expected.heads.truncate(1);
    expected.data.images_per_split = None;
    (expected.training.epochs, expected.training.seeds) = (9, vec![0, 1, 2]);
    assert_eq!(load("top").unwrap(), expected);

    // What is shown reads as the same experiment, and says which file a value is from.
    let shown = ExperimentFile::load(folder.path(), "top", &[]).unwrap().show();
    assert_eq!(Experiment::parse(&shown, Path::new("top.toml")).unwrap(), expected);
    for line in [
        "epochs = 9\n",
        "seeds = [0, 1, 2]  # middle.toml\n",
        "batch_size = 16  # base.toml\n",
        "[[heads]]  # middle.toml\n",
    ] {
        assert!(shown.contains(line), "{line} is not in {shown}");
    }

    // Faults are said of the file that has them.
    let refused = |name: &str| load(name).unwrap_err().to_string();
    write(folder.path(), "middle", &middle.replace("epochs = 7", "epochs = 0\nbatch_sice = 3"));
    let text = refused("top");
    assert!(
        text.contains("middle.toml: line 5, `batch_sice = 3`") && text.contains("did you mean `batch_size`?"),
        "{text}"
    );
    write(folder.path(), "middle", &middle.replace("seeds = \"0..3\"", "batch_size = 1"));
    let text = refused("top");
    assert!(text.contains("middle.toml: line 5, `batch_size = 1`: `training.batch_size` is 1"), "{text}");
    write(folder.path(), "middle", "extends = \"top\"\n");
    assert!(refused("top").contains("`extends` leads in a circle"), "{}", refused("top"));
    write(folder.path(), "middle", "extends = 3\n");
    assert!(refused("top").contains("middle.toml: line 2, `extends = 3`"), "{}", refused("top"));
    write(folder.path(), "top", "extends = \"basis\"\n");
    assert!(refused("top").contains("top.toml: line 2") && refused("top").contains("basis.toml"), "{}", refused("top"));

    // What is built into a program stands in for a missing file.
    let text = "name = \"mine\"\nextends = \"built\"\n";
    let built_in = [("built", smoke_text())];
    let built_in = built_in.each_ref().map(|(name, text)| (*name, text.as_str()));
    let file = ExperimentFile::parse(text, Path::new("mine.toml"), &built_in).unwrap();
    assert_eq!(file.experiment, Experiment { name: "mine".into(), ..smoke() });
}

#[test]
fn lists_of_whole_numbers_may_be_ranges() {
    assert_eq!(parse_integers("0..3, 7").unwrap(), [0, 1, 2, 7]);
    assert_eq!(parse_integers("1..=3").unwrap(), [1, 2, 3]);
    for wrong in ["", "3..3", "5..=4", "0..18446744073709551615", "-1", "a..b", "1,"] {
        let text = parse_integers(wrong).unwrap_err().to_string();
        assert!(text.contains(&format!("is {wrong}, but ")), "{text}");
    }
    let analysis = changed("knn_neighbors = [1, 5, 20]", "knn_neighbors = \"1..=50\"").unwrap().analysis;
    assert_eq!(analysis.knn_neighbors, (1..=50).collect::<Vec<_>>());
    assert!(message("seeds = [0]", "seeds = \"4..0\"").contains("at least one number"));
    assert!(message("seeds = [0]", "seeds = 4").contains("a list of whole numbers, or a range"));
}

/// What is left out of the recipe, or set to what it is without, stands in no specification.
#[test]
fn conditions_change_the_recipe_and_what_is_off_leaves_no_trace() {
    let with = |conditions: &str| Experiment::parse(&(smoke_text() + conditions), Path::new("smoke.toml"));
    let all = "[[conditions]]\nname = \"plain\"\n[[conditions]]\nname = \"off\"\nflip = \"random\"\nlabel_smoothing = 0\n\
        progressive_resizing = []\nepochs_factor = 1\nblur_pool = false\n[[conditions]]\nname = \"all\"\nflip = \"alternating\"\nlabel_smoothing = 0.1\n\
        progressive_resizing = [[0, 16], [0.5, 32]]\nepochs_factor = 1.5\nema = { decay = 0.9, every_steps = 2 }\n\
        blur_pool = true\n";
    let experiment = with(all).unwrap();
    assert_eq!(Experiment::parse(&experiment.to_toml(), Path::new("smoke.toml")).unwrap(), experiment);
    let specs = RunSpec::of(&experiment, &compute());
    let plain = &RunSpec::of(&smoke(), &compute())[0];
    for spec in [&specs[0], &specs[7]] {
        assert_eq!((&spec.training, &spec.data), (&plain.training, &plain.data));
    }
    let text = serde_json::to_string(&specs[7]).unwrap();
    for key in ["flip\"", "label_smoothing", "progressive_resizing", "ema", "blur_pool"] {
        assert!(!text.contains(key), "{key} in {text}");
    }
    let spec = &specs[14];
    assert_eq!((spec.training.epochs, spec.training.label_smoothing), (3, 0.1));
    assert_eq!(spec.training.progressive_resizing, [(0.0, 16), (0.5, 32)]);
    assert_eq!(spec.training.ema, Some(Averaging { decay: 0.9, every_steps: 2 }));
    assert!(spec.training.blur_pool && serde_json::to_string(spec).unwrap().contains("\"blur_pool\":true"));
    assert_eq!(spec.data.augmentation.flip, Flip::Alternating);

    for (from, to, expected) in [
        ("smoothing = 0.1", "smoothing = 1.5", "`conditions.label_smoothing` is 1.5, but it must lie in [0, 1)"),
        ("factor = 1.5", "factor = 0.0", "`conditions.epochs_factor` is 0, but it must be a finite number above 0"),
        ("factor = 1.5", "factor = 1e9", "`conditions.epochs` is 2000000000, but it must lie in 1 ..= 100000"),
    ] {
        let refused = with(&all.replace(from, to)).unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
    }
    let embeddings = |change: fn(&mut Experiment)| {
        let mut experiment = smoke();
        change(&mut experiment);
        experiment.on_own_embeddings("rows", "rows", 7).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(embeddings(|experiment| experiment.training.label_smoothing = 0.1), Ok(()));
    let refused = embeddings(|experiment| experiment.training.progressive_resizing = vec![(0.0, 32)]).unwrap_err();
    assert!(refused.contains("[[0.0, 32]], but embeddings of another model have no size to change"), "{refused}");
    let refused = embeddings(|experiment| experiment.training.blur_pool = true).unwrap_err();
    let expected = "`training.blur_pool` is true, but embeddings of another model have no encoder whose maps could be smoothed; leave it out";
    assert!(refused.contains(expected), "{refused}");
    let refused = embeddings(|experiment| experiment.data.augmentation.flip = Flip::Alternating).unwrap_err();
    assert!(refused.contains("embeddings of another model are not mirrored"), "{refused}");
}

/// Every head under every condition, with the condition in the run's name and its data, and in nothing else.
#[test]
fn conditions_multiply_the_runs() {
    let conditions = "[[conditions]]\nname = \"clean\"\nlabel_noise_percent = 0\n\n\
        [[conditions]]\nname = \"noise-25\"\nlabel_noise_percent = 25\n\n\
        [[conditions]]\nname = \"unseen\"\nheld_out_classes = [\"beagle\", \"dingo\"]\n";
    let experiment = Experiment::parse(&(smoke_text() + conditions), Path::new("smoke.toml")).unwrap();
    let specs = RunSpec::of(&experiment, &compute());
    assert_eq!(specs.len(), 21);
    assert_eq!(specs[0].folder_name(), "Classification-clean-seed0");
    assert_eq!((specs[7].condition.as_str(), specs[7].data.label_noise_percent), ("noise-25", 25));
    assert_eq!(specs[14].data.held_out_classes, ["beagle", "dingo"]);
    assert_eq!(RunSpec::of(&smoke(), &compute())[0].condition, "");

    let twice = conditions.replace("noise-25\"", "clean\"");
    let error = Experiment::parse(&(smoke_text() + &twice), Path::new("smoke.toml")).unwrap_err().to_string();
    assert!(error.contains("conditions.name") && error.contains("another condition"), "{error}");
    // `A` under `b-c` and `A-b` under `c` would share a folder; so would `A` and `a` on some systems.
    for (first, second, condition) in
        [("A", "A-b", "b-c"), ("ArcFace", "arcface", "x"), ("A", "all_y", "x"), ("a", "all", "")]
    {
        let condition = if condition.is_empty() {
            String::new()
        } else {
            format!("[[conditions]]\nname = \"{condition}\"\n[[conditions]]\nname = \"c\"\n")
        };
        let heads =
            [first, second].map(|name| format!("[[heads]]\nkind = \"Classification\"\nname = \"{name}\"\n")).concat();
        let text = smoke_text().split_once("[[heads]]").unwrap().0.to_string() + &heads + &condition;
        let error = Experiment::parse(&text, Path::new("smoke.toml")).unwrap_err().to_string();
        assert!(error.contains("heads.name") && error.contains("give"), "{error}");
    }
    let noise = conditions.replace("percent = 25", "percent = 26");
    assert!(Experiment::parse(&(smoke_text() + &noise), Path::new("smoke.toml")).is_err());
}
