//! `index.html`: one page that shows the whole report. It needs no network, no scripts and no fonts of its own.

use crate::metrics::definitions::{Unit, definition};
use crate::metrics::{KNN, knn_metric, variance_metric};
use crate::pictures::{Outcome, Section};
use crate::plots::Picture;
use crate::plots::svg::escape;
use crate::tables::MetricSummary;
use faceoff_analysis::statements::RULES;
use faceoff_analysis::statistics;
use faceoff_runs::{DatasetName, Engine, Experiment, Manifest};
use std::collections::BTreeSet;
use std::fmt::Write as _;

const STYLE: &str = include_str!("../assets/page.css");

/// The whole page. `notes` are those of the runs at hand.
pub(crate) fn page(
    experiment: &Experiment,
    outcome: &Outcome<'_>,
    sections: &[Section],
    notes: &[String],
) -> String {
    let manifest = outcome.selection.manifest();
    let name = escape(&experiment.name);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>Faceoff: {name}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n"
    );
    html += &header(experiment, outcome, manifest);
    html += &contents(sections);
    html += "<main>\n";
    html += &results(outcome);
    html += &verdicts(outcome);
    html += &note_list(outcome, manifest, notes);
    for section in sections {
        html += &figures(section);
    }
    html += &differences(outcome);
    html += &numbers(outcome);
    html += &method(experiment, manifest);
    html += &provenance(outcome);
    html += "</main>\n<footer>Made by Faceoff ";
    html += &escape(&manifest.version);
    html += " with <code>cargo xtask report ";
    html += &name;
    html += "</code>. Tables: <a href=\"metrics.csv\">metrics</a>, <a href=\"summary.csv\">summary</a>, \
             <a href=\"explained_variance.csv\">explained variance</a>, <a href=\"comparisons.csv\">comparisons</a>, <a href=\"ranks.csv\">ranks</a>, \
             <a href=\"statements.csv\">statements</a>, <a href=\"history.csv\">history</a>, \
             <a href=\"pca.csv\">PCA</a>, <a href=\"tsne.csv\">t-SNE</a>, <code>confusion/</code>.</footer>\n</body>\n</html>\n";
    html
}

fn is_synthetic(manifest: &Manifest) -> bool {
    manifest.spec.data.dataset == DatasetName::Synthetic
}

fn is_imagewoof(manifest: &Manifest) -> bool {
    matches!(manifest.spec.data.dataset, DatasetName::Imagewoof160 | DatasetName::Imagewoof320)
}

fn header(experiment: &Experiment, outcome: &Outcome<'_>, manifest: &Manifest) -> String {
    let mut html = String::new();
    if is_synthetic(manifest) {
        html += "<div class=\"banner\" role=\"alert\"><strong>SYNTHETIC IMAGES.</strong> Made-up textures, no photographs: these numbers show that the \
                 program works and say nothing about heads on real images.</div>\n";
    }
    let data = &manifest.data;
    let seeds: BTreeSet<u64> = outcome.selection.runs.iter().map(|run| run.seed()).collect();
    let spec = &manifest.spec;
    let facts = [
        ("Data set", data.name.clone()),
        (
            "Images",
            format!("{} train, {} validation", thousands(data.train_images), thousands(data.val_images)),
        ),
        ("Classes", data.classes.len().to_string()),
        ("Size", format!("{} px", spec.data.image_size_px)),
        ("Epochs", spec.training.epochs.to_string()),
        ("Variants", outcome.selection.variants.len().to_string()),
        (if seeds.len() == 1 { "Seed" } else { "Seeds" }, list(seeds.iter())),
    ];
    let _ = write!(
        html,
        "<header>\n<p class=\"kicker\">{}</p>\n<h1>Faceoff: {}</h1>\n<p class=\"lead\">{}</p>\n<dl class=\"facts\">\n",
        escape(&data.name),
        escape(&experiment.name),
        escape(&experiment.description)
    );
    for (key, value) in facts {
        let _ = writeln!(html, "<div><dt>{key}</dt><dd>{}</dd></div>", escape(&value));
    }
    html + "</dl>\n</header>\n"
}

fn contents(sections: &[Section]) -> String {
    let mut html = String::from(
        "<nav aria-label=\"Contents\">\n<a href=\"#results\">Results</a>\n<a href=\"#statements\">Statements</a>\n<a href=\"#notes\">Notes</a>\n",
    );
    for section in sections {
        let _ = writeln!(html, "<a href=\"#{}\">{}</a>", section.id, escape(section.short));
    }
    html + "<a href=\"#differences\">Differences</a>\n<a href=\"#numbers\">All numbers</a>\n<a href=\"#method\">Method</a>\n<a href=\"#provenance\">Provenance</a>\n</nav>\n"
}

/// The headline table: means with half-widths of their intervals, the highest accuracy of each column in bold.
fn results(outcome: &Outcome<'_>) -> String {
    let metrics = [
        "dnn_accuracy".to_string(),
        "dnn_macro_accuracy".into(),
        "dnn_accuracy_labels_given".into(),
        knn_metric(KNN),
        "knn_macro_accuracy_k5".into(),
        variance_metric(16),
        variance_metric(128),
    ];
    let mut html = String::from(
        "<section id=\"results\">\n<h2>Results</h2>\n<div class=\"scroll\"><table>\n<thead><tr><th>Variant</th><th>Head</th><th class=\"n\">Seeds</th>",
    );
    for metric in &metrics {
        let definition = definition(metric);
        let unit = definition.unit_suffix();
        let _ = write!(
            html,
            "<th class=\"n\" title=\"{}\">{}{unit}</th>",
            escape(&definition.sentence),
            escape(&definition.title).replace(" = ", "&nbsp;=&nbsp;")
        );
    }
    html += "</tr></thead>\n<tbody>\n";
    let best: Vec<Option<String>> = metrics
        .iter()
        .map(|metric| {
            let definition = definition(metric);
            let means = (0..outcome.selection.variants.len())
                .filter_map(|variant| Some(outcome.summary(variant, metric)?.summary.mean));
            let best = means.max_by(f64::total_cmp)?;
            (definition.unit == Unit::Percent && !metric.ends_with("given")).then(|| definition.format(best))
        })
        .collect();
    for (index, variant) in outcome.selection.variants.iter().enumerate() {
        let seeds = outcome.selection.of_variant(index).count();
        let _ = write!(
            html,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"n\">{seeds}</td>",
            escape(&variant.name),
            variant.head.kind()
        );
        for (metric, best) in metrics.iter().zip(&best) {
            let row = outcome.summary(index, metric);
            let text = row.map_or("\u{2013}".into(), |row| with_interval(metric, row));
            let is_best = row.is_some_and(|row| Some(definition(metric).format(row.summary.mean)) == *best);
            let class = if is_best && outcome.selection.variants.len() > 1 { "n best" } else { "n" };
            let _ = write!(html, "<td class=\"{class}\">{text}</td>");
        }
        html += "</tr>\n";
    }
    html += "</tbody></table></div>\n<p class=\"small\">Means over seeds; \u{b1} is the half-width of the 95 % interval of the mean (Student\u{2019}s t) where there are at \
             least two seeds. Bold: the highest mean of the column, which alone does not mean that it is better.</p>\n</section>\n";
    html
}

/// `76.1 ± 0.8`, or the mean alone.
fn with_interval(metric: &str, row: &MetricSummary) -> String {
    let definition = definition(metric);
    let mean = definition.format(row.summary.mean);
    match row.summary.interval {
        Some(interval) => {
            let half = definition.format((interval.high - interval.low) / 2.0);
            format!("{mean}<span class=\"ci\"> \u{b1} {half}</span>")
        }
        None => mean,
    }
}

/// The article's statements with their verdicts; the rules stand in the section on method.
fn verdicts(outcome: &Outcome<'_>) -> String {
    let mut html = String::from(
        "<section id=\"statements\">\n<h2>The article\u{2019}s statements</h2>\n<p>Judged from paired differences over seeds, by rules that were written down before the \
         runs (see <a href=\"#method\">Method</a>); never from one run.</p>\n",
    );
    for judged in &outcome.comparisons.judgements {
        if !judged.condition.is_empty() {
            let _ = writeln!(html, "<h3>Condition {}</h3>", escape(&judged.condition));
        }
        html += "<div class=\"scroll\"><table>\n<thead><tr><th>#</th><th>Statement</th><th>Verdict</th><th>Why</th></tr></thead>\n<tbody>\n";
        for judgement in &judged.judgements {
            let _ = writeln!(
                html,
                "<tr><td>{0}</td><td class=\"said\">{1}</td><td><span class=\"verdict {2}\">{2}</span></td><td class=\"def\">{3}</td></tr>",
                judgement.statement.number,
                escape(judgement.statement.text),
                judgement.verdict,
                escape(&judgement.why)
            );
        }
        html += "</tbody></table></div>\n";
    }
    html + "</section>\n"
}

/// Paired differences of all variants.
fn differences(outcome: &Outcome<'_>) -> String {
    let pairs = &outcome.comparisons.pairs;
    let mut html = String::from(
        "<section id=\"differences\">\n<h2>Differences between variants</h2>\n<p>Paired by seed: with one seed, all variants see the same start of the encoder and the same \
         images in the same order. p is that of the paired t-test, corrected by Holm over all pairs of the metric. The last column says how many seeds would show a \
         difference of this size with a power of 80 %; with one seed the scatter is taken as one point.</p>\n",
    );
    let mut metrics: Vec<&str> = Vec::new();
    for pair in pairs {
        if !metrics.contains(&pair.metric.as_str()) {
            metrics.push(&pair.metric);
        }
    }
    for metric in metrics {
        let of_metric: Vec<_> = pairs.iter().filter(|pair| pair.metric == metric).collect();
        let significant =
            of_metric.iter().filter(|pair| pair.p_holm.is_some_and(|p| p < statistics::ALPHA)).count();
        let _ = writeln!(
            html,
            "<details>\n<summary>{}: {significant} of {} pairs differ at 5 %</summary>\n<div class=\"scroll\"><table>\n<thead><tr><th>Variant</th><th>minus</th>\
             <th class=\"n\">seeds</th><th class=\"n\">difference, points</th><th class=\"n\">95 % interval</th><th class=\"n\">Cohen\u{2019}s d</th>\
             <th class=\"n\">p, Holm</th><th class=\"n\">seeds needed</th></tr></thead>\n<tbody>",
            escape(&definition(metric).title),
            of_metric.len()
        );
        for pair in of_metric {
            let sample = &pair.paired.difference;
            let none = || "\u{2013}".to_string();
            let significant = pair.p_holm.is_some_and(|p| p < statistics::ALPHA);
            let _ = writeln!(
                html,
                "<tr{}><th scope=\"row\">{}</th><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{:+.1}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
                 <td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
                if significant { " class=\"sure\"" } else { "" },
                escape(outcome.name(pair.a)),
                escape(outcome.name(pair.b)),
                sample.n,
                100.0 * sample.mean,
                sample.interval.map_or_else(none, |interval| format!(
                    "{:+.1} to {:+.1}",
                    100.0 * interval.low,
                    100.0 * interval.high
                )),
                pair.paired.cohens_d.map_or_else(none, |d| format!("{d:.2}")),
                pair.p_holm
                    .map_or_else(none, |p| if p < 1e-3 { "< 0.001".into() } else { format!("{p:.3}") })
                    .replace('<', "&lt;"),
                pair.seeds_needed.map_or_else(none, |seeds| seeds.to_string())
            );
        }
        html += "</tbody></table></div>\n</details>\n";
    }
    html + "</section>\n"
}

fn note_list(outcome: &Outcome<'_>, manifest: &Manifest, notes: &[String]) -> String {
    let mut all: Vec<String> = notes.iter().map(|note| escape(note)).collect();
    let lone = (0..outcome.selection.variants.len())
        .any(|variant| outcome.selection.of_variant(variant).count() == 1);
    if lone {
        all.push(
            "<strong>One seed has no interval.</strong> Run to run, an accuracy differs by about one point from the seed alone: differences of one or two \
             points between variants with one seed mean nothing."
                .into(),
        );
    }
    if is_imagewoof(manifest) {
        all.push(
            "Three pairs of files of Imagewoof are byte-identical under two different labels, two of them across the split. The official split is kept, so \
             no accuracy can reach 100 %."
                .into(),
        );
        all.push(
            "English foxhound is small (580 training and 224 validation images of 9,025 and 3,929): macro accuracy, in which every class counts alike, stands \
             beside accuracy."
                .into(),
        );
    }
    all.push(
        "<em>Labels given</em> is the reading of Catalyst\u{2019}s validation loop: the training logits are asked, so a margin handicaps the true class. It is no \
         accuracy of a classifier that does not know the answer."
            .into(),
    );
    all.push(
        "Losses are never to be compared across heads: scale and margin give each another lowest value."
            .into(),
    );
    format!(
        "<section id=\"notes\">\n<h2>Notes</h2>\n<ul>\n<li>{}</li>\n</ul>\n</section>\n",
        all.join("</li>\n<li>")
    )
}

fn figures(section: &Section) -> String {
    let mut html = format!(
        "<section id=\"{}\">\n<h2>{}</h2>\n<p>{}</p>\n",
        section.id,
        escape(section.title),
        escape(&section.text)
    );
    html += &gallery(&section.pictures);
    if !section.details.is_empty() {
        html += "<details>\n<summary>One large picture for each variant</summary>\n";
        html += &gallery(&section.details);
        html += "</details>\n";
    }
    html + "</section>\n"
}

/// Pictures below each other; narrow ones beside each other where the window is wide.
fn gallery(pictures: &[Picture]) -> String {
    let figures: String = pictures.iter().map(figure).collect();
    format!("<div class=\"gallery\">\n{figures}</div>\n")
}

fn figure(picture: &Picture) -> String {
    let (file, alt) = (escape(&picture.file), escape(&picture.alt));
    let wide = if picture.size.0 > 680.0 { " class=\"whole\"" } else { "" };
    format!(
        "<figure{wide}><a href=\"plots/{file}\"><img src=\"plots/{file}\" alt=\"{alt}\" width=\"{}\" height=\"{}\" loading=\"lazy\"></a></figure>\n",
        picture.size.0.round(),
        picture.size.1.round()
    )
}

/// Every metric with its definition beside its numbers.
fn numbers(outcome: &Outcome<'_>) -> String {
    let mut metrics: Vec<&str> = Vec::new();
    for row in outcome.summaries {
        if !metrics.contains(&row.metric.as_str()) {
            metrics.push(&row.metric);
        }
    }
    let mut html = String::from(
        "<section id=\"numbers\">\n<h2>All numbers</h2>\n<div class=\"scroll\"><table class=\"wide\">\n<thead><tr><th>Metric</th><th>Definition</th>",
    );
    for variant in &outcome.selection.variants {
        let _ = write!(html, "<th class=\"n\">{}</th>", escape(&variant.name));
    }
    html += "</tr></thead>\n<tbody>\n";
    // Metrics of one family stand together, families in the order of their first metric.
    let mut groups: Vec<&str> = Vec::new();
    for metric in &metrics {
        let group = definition(metric).group;
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    metrics.sort_by_key(|metric| groups.iter().position(|group| *group == definition(metric).group));
    let mut last_group = "";
    for metric in metrics {
        let definition = definition(metric);
        if definition.group != last_group {
            last_group = definition.group;
            let columns = outcome.selection.variants.len() + 2;
            let _ = writeln!(html, "<tr class=\"group\"><th colspan=\"{columns}\">{last_group}</th></tr>");
        }
        let unit = definition.unit_suffix();
        let _ = write!(
            html,
            "<tr><th scope=\"row\">{}{unit}</th><td class=\"def\">{}</td>",
            escape(&definition.title),
            escape(&definition.sentence)
        );
        for variant in 0..outcome.selection.variants.len() {
            let text =
                outcome.summary(variant, metric).map_or("\u{2013}".into(), |row| with_interval(metric, row));
            let _ = write!(html, "<td class=\"n\">{text}</td>");
        }
        html += "</tr>\n";
    }
    html + "</tbody></table></div>\n</section>\n"
}

fn method(experiment: &Experiment, manifest: &Manifest) -> String {
    let spec = &manifest.spec;
    let (training, data, analysis) = (&spec.training, &spec.data, &experiment.analysis);
    let engine = match analysis.engine {
        Engine::Fast => {
            "exact blocked search, eigen-decomposition in f64, Barnes-Hut t-SNE (<code>engine = \"fast\"</code>)"
        }
        Engine::Linfa => "linfa-nn, linfa-reduction and linfa-tsne (<code>engine = \"linfa\"</code>)",
    };
    let noise = match data.label_noise_percent {
        0 => String::new(),
        percent => format!(" Training labels: {percent} % wrong; all accuracies use the true labels."),
    };
    let paragraphs = [
        format!(
            "Every variant trains the same encoder (ResNet-18 from a random start, 512 dimensions after global average pooling) under its own head with \
             cross-entropy. With one seed, the encoder\u{2019}s start and the order and augmentation of the images are the same for all heads. AdamW, peak learning \
             rate {:e}, weight decay {}, batches of {}, {} epochs under a one-cycle cosine schedule; the last epoch is scored.{noise}",
            training.peak_learning_rate, training.weight_decay, training.batch_size, training.epochs
        ),
        format!(
            "Inference takes the encoder alone, on a centre crop of {} px, and brings its output to unit length. All measures are on these unit embeddings, or on the \
             head\u{2019}s scores of them. Computed by {engine}.",
            data.image_size_px
        ),
        "KNN: the training images, with their true labels, are the index; the validation images are the queries; the similarity is the cosine. Majority vote; ties go to \
         the class of the nearest neighbour among the tied."
            .into(),
        format!(
            "t-SNE: perplexity {}, {} steps, start from the first two principal components. PCA maps: components of the validation embeddings themselves.",
            analysis.tsne_perplexity, analysis.tsne_iterations
        ),
        "Over seeds, a mean\u{2019}s 95 % interval is mean \u{b1} t(0.975, n \u{2212} 1) sd / \u{221a}n. With one seed there is none; pictures then show the binomial interval \
         of the images (Wilson), which says nothing of the spread between seeds."
            .into(),
    ];
    let mut html =
        format!("<section id=\"method\">\n<h2>Method</h2>\n<p>{}</p>\n", paragraphs.join("</p>\n<p>"));
    html += "<h3>How the statements are judged</h3>\n<ol class=\"rules\">\n";
    for statement in RULES {
        let _ =
            writeln!(html, "<li><strong>{}</strong> {}</li>", escape(statement.text), escape(statement.rule));
    }
    html += "</ol>\n<p>A statement is <em>supported</em> if all its comparisons hold, <em>contradicted</em> if one at least is contradicted, else <em>undecided</em>. \
             Statements 1 to 4 are judged apart for each scale s of the heads with a margin, together with the heads that have no scale to set, and have to come out \
             alike at every scale.</p>\n";
    html + "</section>\n"
}

fn provenance(outcome: &Outcome<'_>) -> String {
    let runs = &outcome.selection.runs;
    let distinct = |value: fn(&Manifest) -> String| {
        let values: BTreeSet<String> = runs.iter().map(|run| value(&run.manifest)).collect();
        values.into_iter().map(|value| escape(&value)).collect::<Vec<_>>().join("<br>")
    };
    let facts = [
        ("Commit", distinct(|m| m.commit.clone())),
        ("Version", distinct(|m| m.version.clone())),
        ("Device", distinct(|m| m.device.clone())),
        (
            "Machine",
            distinct(|m| {
                let machine = &m.machine;
                format!(
                    "{}, {} logical processors, {:.1} GiB, {}, {} threads used",
                    machine.cpu.trim(),
                    machine.processors,
                    machine.memory_mib as f64 / 1024.0,
                    machine.system,
                    machine.threads
                )
            }),
        ),
        ("Data fingerprint", distinct(|m| m.data.fingerprint.clone())),
        ("Archive md5", distinct(|m| m.data.archive_md5.clone().unwrap_or_else(|| "no archive".into()))),
    ];
    let mut html = String::from(
        "<section id=\"provenance\">\n<h2>Provenance</h2>\n<div class=\"scroll\"><table>\n<tbody>\n",
    );
    for (key, value) in facts {
        let _ = writeln!(html, "<tr><th scope=\"row\">{key}</th><td class=\"mono\">{value}</td></tr>");
    }
    html += "</tbody></table></div>\n";

    let phases: BTreeSet<&str> =
        runs.iter().flat_map(|run| run.manifest.seconds.keys().map(String::as_str)).collect();
    html += "<h3>Seconds of each run</h3>\n<div class=\"scroll\"><table>\n<thead><tr><th>Run</th><th class=\"n\">Seed</th>";
    for phase in &phases {
        let _ = write!(html, "<th class=\"n\">{}, s</th>", escape(phase));
    }
    html +=
        "<th class=\"n\">waiting for data, % of training</th><th>Configuration</th></tr></thead>\n<tbody>\n";
    for run in runs {
        let seconds = &run.manifest.seconds;
        let _ = write!(
            html,
            "<tr><th scope=\"row\">{}</th><td class=\"n\">{}</td>",
            escape(&run.name),
            run.seed()
        );
        for &phase in &phases {
            let text = seconds.get(phase).map_or("\u{2013}".into(), |value| format!("{value:.1}"));
            let _ = write!(html, "<td class=\"n\">{text}</td>");
        }
        let share = match (seconds.get("wait for data"), seconds.get("train")) {
            (Some(wait), Some(&train)) if train > 0.0 => format!("{:.1}", 100.0 * wait / train),
            _ => "\u{2013}".into(),
        };
        let hash = &run.manifest.spec_hash;
        let short = hash.get(..12).unwrap_or(hash);
        let _ = writeln!(html, "<td class=\"n\">{share}</td><td class=\"mono\">{}</td></tr>", escape(short));
    }
    html += "</tbody></table></div>\n";
    if !outcome.selection.failed.is_empty() {
        html += "<h3>Failed runs</h3>\n<ul>\n";
        for run in &outcome.selection.failed {
            let failure = &run.failure;
            let _ = writeln!(
                html,
                "<li><strong>{}</strong> ({}): epoch {}, step {}, learning rate {:.2e}: {}</li>",
                escape(&run.name),
                escape(&failure.head),
                failure.epoch,
                failure.step,
                failure.learning_rate,
                escape(&failure.message)
            );
        }
        html += "</ul>\n";
    }
    html + "</section>\n"
}

/// 12,954.
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn list(values: impl Iterator<Item = impl ToString>) -> String {
    values.map(|value| value.to_string()).collect::<Vec<_>>().join(", ")
}
