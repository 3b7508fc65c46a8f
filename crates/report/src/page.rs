//! `index.html`: one page that shows the whole report. It needs no network, no scripts and no fonts of its own.

use crate::pictures::Section;
use crate::plots::Picture;
use crate::plots::svg::escape;
use faceoff_analysis::statistics;
use faceoff_evaluation::families::classifier::LABELS_GIVEN;
use faceoff_evaluation::families::neighbors;
use faceoff_evaluation::selection::Origin;
use faceoff_evaluation::statements::RULES;
use faceoff_evaluation::summaries::MetricSummary;
use faceoff_evaluation::{Direction, Evaluation, Headline, MetricId, Unit};
use faceoff_runs::{DatasetName, Engine, Experiment, Manifest};
use std::collections::BTreeSet;
use std::fmt::Write as _;

const STYLE: &str = include_str!("../assets/page.css");

/// The page of an experiment. `manifest` is that of any of its runs, `tables` are the names of the CSV files.
pub(crate) fn page(
    experiment: &Experiment,
    manifest: &Manifest,
    outcome: &Evaluation,
    sections: &[Section],
    tables: &[&str],
) -> String {
    let notes = &outcome.notes;
    let mut body = header(experiment, outcome, manifest);
    let mut links = vec![("results", "Results"), ("statements", "Statements"), ("notes", "Notes")];
    links.extend(sections.iter().map(|section| (section.id, section.short)));
    links.extend([
        ("differences", "Differences"),
        ("numbers", "All numbers"),
        ("method", "Method"),
        ("provenance", "Provenance"),
    ]);
    body += &contents(&links);
    body += "<main>\n";
    body += &results(outcome);
    body += &verdicts(outcome);
    body += &note_list(outcome, manifest, notes);
    sections.iter().for_each(|section| body += &figures(section));
    body += &differences(outcome);
    body += &numbers(outcome);
    body += &method(experiment, outcome, manifest);
    body += &provenance(outcome);
    body += "</main>\n";
    body += &footer(
        &format!(
            "Made by Faceoff {} with <code>cargo xtask report {}</code>.",
            escape(&manifest.version),
            escape(&experiment.name)
        ),
        tables,
    );
    document(&experiment.name, &body)
}

/// The page of external embeddings.
pub(crate) fn external(name: &str, outcome: &Evaluation, sections: &[Section], tables: &[&str]) -> String {
    let Origin::External { queries, index } = outcome.selection.origin else {
        unreachable!("external embeddings are no runs")
    };
    let size = |(rows, columns): (usize, usize)| format!("{rows} x {columns}");
    let mut facts = vec![
        ("Embeddings", size(queries)),
        (
            "Classes",
            outcome.groups.first().map_or(0, |group| group.classes(&outcome.selection).len()).to_string(),
        ),
    ];
    facts.extend(index.map(|index| ("Index", size(index))));
    let method = match index {
        Some(_) => {
            "Where the definitions say training images, the index is meant (--train-embeddings); where they say validation images, the evaluated embeddings \
             (--embeddings). All rows were brought to unit length; similarity is the cosine. No classifier is known, so nothing is said of one. One set of embeddings \
             is one training (n = 1): intervals are over images alone."
        }
        None => {
            "There is one set of embeddings, so every point is compared with all others: where the definitions say training images, all other points are meant for \
             neighbours, and the whole set for explained variance and neural collapse. All rows were brought to unit length; similarity is the cosine. No classifier is \
             known, so nothing is said of one, and a linear probe would need a second set (--train-embeddings). One set of embeddings is one training (n = 1): intervals \
             are over images alone."
        }
    };
    let notes = &outcome.notes;
    let mut body = format!(
        "<header>\n<p class=\"kicker\">External embeddings</p>\n<h1>Faceoff: {}</h1>\n\
         <p class=\"lead\">Everything that needs no classifier.</p>\n{}</header>\n",
        escape(name),
        fact_list(&facts)
    );
    let mut links = vec![("numbers", "All numbers")];
    links.extend((!notes.is_empty()).then_some(("notes", "Notes")));
    links.extend(sections.iter().map(|section| (section.id, section.short)));
    links.push(("method", "Method"));
    body += &contents(&links);
    body += "<main>\n";
    body += &numbers(outcome);
    body += &bullets(&notes.iter().map(|note| escape(note)).collect::<Vec<_>>());
    sections.iter().for_each(|section| body += &figures(section));
    let _ = write!(body, "<section id=\"method\">\n<h2>Method</h2>\n<p>{}</p>\n</section>\n", escape(method));
    body += "</main>\n";
    let by = format!(
        "Made by Faceoff {} with <code>cargo xtask report --embeddings</code>.",
        env!("CARGO_PKG_VERSION")
    );
    body += &footer(&by, tables);
    document(name, &body)
}

fn document(name: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>Faceoff: {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n",
        escape(name)
    )
}

fn footer(by: &str, tables: &[&str]) -> String {
    let links: Vec<String> =
        tables.iter().map(|table| format!("<a href=\"{0}\">{0}</a>", escape(table))).collect();
    format!("<footer>{by} Tables: {}.</footer>\n", links.join(", "))
}

fn is_synthetic(manifest: &Manifest) -> bool {
    manifest.spec.data.dataset == DatasetName::Synthetic
}

fn is_imagewoof(manifest: &Manifest) -> bool {
    matches!(manifest.spec.data.dataset, DatasetName::Imagewoof160 | DatasetName::Imagewoof320)
}

fn header(experiment: &Experiment, outcome: &Evaluation, manifest: &Manifest) -> String {
    let mut html = String::new();
    if is_synthetic(manifest) {
        html += "<div class=\"banner\" role=\"alert\"><strong>SYNTHETIC IMAGES.</strong> Made-up textures, no photographs: these numbers show that the \
                 program works and say nothing about heads on real images.</div>\n";
    }
    let data = &manifest.data;
    let runs = &outcome.selection.runs;
    let seeds: BTreeSet<u64> = runs.iter().map(|run| run.seed()).collect();
    let spec = &manifest.spec;
    let each = |text: fn(&Manifest) -> String| {
        let mut found: Vec<String> = Vec::new();
        for text in runs.iter().map(|run| text(&run.manifest)) {
            if !found.contains(&text) {
                found.push(text);
            }
        }
        found.join("; ")
    };
    let mut facts = vec![
        ("Data set", data.name.clone()),
        (
            "Images",
            each(|manifest| {
                let data = &manifest.data;
                format!("{} train, {} validation", thousands(data.train_images), thousands(data.val_images))
            }),
        ),
        ("Classes", each(|manifest| manifest.data.classes.len().to_string())),
        ("Size", format!("{} px", spec.data.image_size_px)),
        ("Epochs", spec.training.epochs.to_string()),
        ("Variants", outcome.selection.variants.len().to_string()),
        (if seeds.len() == 1 { "Seed (n = 1)" } else { "Seeds" }, list(seeds.iter())),
    ];
    let conditions = each(|manifest| manifest.spec.condition.clone());
    if !conditions.is_empty() {
        facts.push(("Conditions", conditions));
    }
    let _ = write!(
        html,
        "<header>\n<p class=\"kicker\">{}</p>\n<h1>Faceoff: {}</h1>\n<p class=\"lead\">{}</p>\n{}</header>\n",
        escape(&data.name),
        escape(&experiment.name),
        escape(&experiment.description),
        fact_list(&facts)
    );
    html
}

fn fact_list(facts: &[(&str, String)]) -> String {
    let mut html = String::from("<dl class=\"facts\">\n");
    for (key, value) in facts {
        let _ = writeln!(html, "<div><dt>{key}</dt><dd>{}</dd></div>", escape(value));
    }
    html + "</dl>\n"
}

fn contents(links: &[(&str, &str)]) -> String {
    let mut html = String::from("<nav aria-label=\"Contents\">\n");
    for (id, short) in links {
        let _ = writeln!(html, "<a href=\"#{id}\">{}</a>", escape(short));
    }
    html + "</nav>\n"
}

/// The headline table: means with half-widths of their intervals, the highest accuracy of each column in bold.
fn results(outcome: &Evaluation) -> String {
    // Unseen classes have no classifier; where there is one, retrieval stands in the table of all numbers.
    let unseen = outcome.selection.variants.iter().any(|variant| variant.unseen);
    let metrics: Vec<MetricId> = outcome
        .headline
        .iter()
        .filter(|(_, rank)| unseen || *rank != Headline::ResultIfUnseen)
        .map(|&(metric, _)| metric)
        .collect();
    let mut html = String::from(
        "<section id=\"results\">\n<h2>Results</h2>\n<div class=\"scroll\"><table>\n<thead><tr><th>Variant</th><th>Head</th><th class=\"n\">Seeds</th>",
    );
    for metric in &metrics {
        let unit = metric.unit_suffix();
        let _ = write!(
            html,
            "<th class=\"n\" title=\"{}\">{}{unit}</th>",
            escape(&metric.sentence()),
            escape(&metric.title()).replace(" = ", "&nbsp;=&nbsp;")
        );
    }
    html += "</tr></thead>\n<tbody>\n";
    let variants = &outcome.selection.variants;
    let mut last = "";
    for (index, variant) in variants.iter().enumerate() {
        if variant.condition != last {
            last = &variant.condition;
            let columns = metrics.len() + 3;
            let _ = writeln!(
                html,
                "<tr class=\"group\"><th colspan=\"{columns}\">Condition {}</th></tr>",
                escape(last)
            );
        }
        let seeds = outcome.selection.of_variant(index).count();
        let _ = write!(
            html,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"n\">{seeds}</td>",
            escape(&variant.name),
            escape(&variant.head)
        );
        let rivals: Vec<usize> =
            (0..variants.len()).filter(|&other| variants[other].condition == variant.condition).collect();
        for &metric in &metrics {
            let mean = |variant: usize| Some(outcome.summary(variant, metric)?.summary.mean);
            let written = |mean: f64| metric.format(mean);
            let highest = rivals.iter().filter_map(|&other| mean(other)).max_by(f64::total_cmp).map(written);
            let compares = metric.metric().unit == Unit::Percent
                && metric.metric().direction == Direction::Higher
                && rivals.len() > 1;
            let is_best = compares && mean(index).map(written) == highest;
            let text = outcome.summary(index, metric).map_or("\u{2013}".into(), with_interval);
            let _ = write!(html, "<td class=\"{}\">{text}</td>", if is_best { "n best" } else { "n" });
        }
        html += "</tr>\n";
    }
    html += "</tbody></table></div>\n<p class=\"small\">Means over seeds; \u{b1} is the half-width of the 95 % interval of the mean (Student\u{2019}s t) where there are at \
             least two seeds. Bold: the highest mean of the column, which alone does not mean that it is better.</p>\n";
    html + &scatter(outcome) + "</section>\n"
}

/// With more variants than this, a long table is folded.
const HEADS: usize = 11;

/// What is known of the scatter of the two accuracies: over seeds, and over images within a seed.
fn scatter(outcome: &Evaluation) -> String {
    let open = if outcome.shown().count() <= HEADS { " open=\"\"" } else { "" };
    let mut html = format!(
        "<details{open}>\n<summary>Scatter of the accuracies: over seeds and over images</summary>\n<div class=\"scroll\"><table>\n<thead><tr><th>Variant</th><th>Metric</th><th class=\"n\">n (seeds)</th>\
         <th class=\"n\">mean, %</th><th class=\"n\">standard deviation</th><th class=\"n\">95&nbsp;% interval over seeds</th>\
         <th class=\"n\">95&nbsp;% interval over images</th></tr></thead>\n<tbody>\n",
    );
    for variant in outcome.shown() {
        for metric in outcome.compared() {
            let Some(row) = outcome.summary(variant, metric) else { continue };
            let range = |low: f64, high: f64| format!("{} to {}", metric.format(low), metric.format(high));
            let (low, high): (Vec<f64>, Vec<f64>) = outcome
                .measured
                .iter()
                .filter(|run| run.variant == variant)
                .filter_map(|run| run.found.interval(metric))
                .map(|interval| (interval.low, interval.high))
                .unzip();
            let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
            let _ = writeln!(
                html,
                "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
                 <td class=\"n\">{}</td></tr>",
                escape(outcome.name(variant)),
                escape(&metric.title()),
                row.summary.n,
                metric.format(row.summary.mean),
                row.summary.sd.map_or("\u{2013}".into(), |sd| format!("{:.2}", 100.0 * sd)),
                match row.summary.interval {
                    Some(interval) => range(interval.low, interval.high),
                    None => "none: n = 1".into(),
                },
                if low.is_empty() { "\u{2013}".into() } else { range(mean(&low), mean(&high)) }
            );
        }
    }
    html + "</tbody></table></div>\n<p class=\"small\">Over seeds: Student\u{2019}s t, which says where the mean of many trainings lies. Over images: bootstrap within a seed \
            (2,000 resamples; with several seeds, the mean of their ends), which says how much the choice of the validation images matters and nothing of the spread \
            between trainings.</p>\n</details>\n"
}

/// `76.1 ± 0.8`, or the mean alone.
fn with_interval(row: &MetricSummary) -> String {
    let mean = row.metric.format(row.summary.mean);
    match row.summary.interval {
        Some(interval) => {
            let half = row.metric.format((interval.high - interval.low) / 2.0);
            format!("{mean}<span class=\"ci\"> \u{b1} {half}</span>")
        }
        None => mean,
    }
}

/// The article's statements with their verdicts; the rules stand in the section on method.
fn verdicts(outcome: &Evaluation) -> String {
    let mut html = String::from(
        "<section id=\"statements\">\n<h2>The article\u{2019}s statements</h2>\n<p>Judged from paired differences over seeds, by rules that were written down before the \
         runs (see <a href=\"#method\">Method</a>); never from one run.</p>\n",
    );
    if outcome.comparisons.judgements.is_empty() {
        html += "<p>Not judged here: the statements are about classes that were trained on, with their true labels, and about settings that were not chosen on \
                 the validation images.</p>\n";
    }
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
fn differences(outcome: &Evaluation) -> String {
    let pairs = &outcome.comparisons.pairs;
    let mut html = String::from(
        "<section id=\"differences\">\n<h2>Differences between variants</h2>\n<p>Paired by seed: with one seed, all variants see the same start of the encoder and the same \
         images in the same order. p is that of the paired t-test, corrected by Holm over all pairs of the metric. The last column says how many seeds would show a \
         difference of this size with a power of 80 %; with one seed the scatter is taken as one point.</p>\n",
    );
    let of = |metric: &MetricId| pairs.iter().any(|pair| pair.metric == *metric);
    for metric in outcome.compared().filter(of) {
        let of_metric: Vec<_> = pairs.iter().filter(|pair| pair.metric == metric).collect();
        let significant =
            of_metric.iter().filter(|pair| pair.p_holm.is_some_and(|p| p < statistics::ALPHA)).count();
        let _ = writeln!(
            html,
            "<details>\n<summary>{}: {significant} of {} pairs differ at 5 %</summary>\n<div class=\"scroll\"><table>\n<thead><tr><th>Variant</th><th>minus</th>\
             <th class=\"n\">seeds</th><th class=\"n\">difference, points</th><th class=\"n\">95 % interval</th><th class=\"n\">Cohen\u{2019}s d</th>\
             <th class=\"n\">p, Holm</th><th class=\"n\">seeds needed</th></tr></thead>\n<tbody>",
            escape(&metric.title()),
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

fn note_list(outcome: &Evaluation, manifest: &Manifest, notes: &[String]) -> String {
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
    if outcome.summaries.iter().any(|row| row.metric == LABELS_GIVEN.id()) {
        all.push(
        "<em>Labels given</em> is the reading of Catalyst\u{2019}s validation loop: the training logits are asked, so a margin handicaps the true class. It is no \
         accuracy of a classifier that does not know the answer."
            .into(),
    );
    }
    all.push(
        "Losses are never to be compared across heads: scale and margin give each another lowest value."
            .into(),
    );
    bullets(&all)
}

/// The section of notes; nothing without any.
fn bullets(notes: &[String]) -> String {
    if notes.is_empty() {
        return String::new();
    }
    format!(
        "<section id=\"notes\">\n<h2>Notes</h2>\n<ul>\n<li>{}</li>\n</ul>\n</section>\n",
        notes.join("</li>\n<li>")
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
        "<figure{wide}><a href=\"plots/{file}\"><img src=\"plots/{file}\" alt=\"{alt}\" width=\"{}\" height=\"{}\" loading=\"lazy\"></a><figcaption>{alt}.</figcaption></figure>\n",
        picture.size.0.round(),
        picture.size.1.round()
    )
}

/// Neighbourhood sizes with a row of their own; the others are in the pictures and in `metrics.csv`.
const SHOWN_NEIGHBORS: [usize; 5] = [1, 5, 10, 20, 50];

/// Every metric with its definition beside its numbers, a table for each condition.
fn numbers(outcome: &Evaluation) -> String {
    let mut html = String::from("<section id=\"numbers\">\n<h2>All numbers</h2>\n");
    if outcome.groups.iter().any(|group| group.hidden > 0) {
        html += "<p>Of a head with many settings, the one with the highest KNN accuracy; summary.csv has all.</p>\n";
    }
    for group in &outcome.groups {
        let table = number_table(outcome, &group.variants);
        match outcome.groups.len() {
            1 => html += &table,
            _ => {
                let name = escape(&group.condition);
                let _ = write!(html, "<details>\n<summary>Condition {name}</summary>\n{table}</details>\n");
            }
        }
    }
    html + "</section>\n"
}

fn number_table(outcome: &Evaluation, variants: &[usize]) -> String {
    let mut metrics: Vec<MetricId> = Vec::new();
    for row in outcome.summaries.iter().filter(|row| variants.contains(&row.variant)) {
        let curve = neighbors::FAMILY.metrics.iter().any(|metric| metric.id == row.metric.metric().id);
        let listed = !curve || row.metric.number().is_none_or(|size| SHOWN_NEIGHBORS.contains(&size));
        if listed && !metrics.contains(&row.metric) {
            metrics.push(row.metric);
        }
    }
    let mut html = String::from(
        "<div class=\"scroll\"><table class=\"wide\">\n<thead><tr><th>Metric</th><th>Definition</th>",
    );
    for &variant in variants {
        let _ = write!(html, "<th class=\"n\">{}</th>", escape(outcome.name(variant)));
    }
    html += "</tr></thead>\n<tbody>\n";
    // Metrics of one family stand together, families in the order of their first metric.
    let mut families: Vec<&str> = Vec::new();
    for metric in &metrics {
        let family = metric.metric().group;
        if !families.contains(&family) {
            families.push(family);
        }
    }
    metrics.sort_by_key(|metric| families.iter().position(|family| *family == metric.metric().group));
    let mut last = "";
    for metric in metrics {
        if metric.metric().group != last {
            last = metric.metric().group;
            let columns = variants.len() + 2;
            let _ = writeln!(html, "<tr class=\"group\"><th colspan=\"{columns}\">{last}</th></tr>");
        }
        let unit = metric.unit_suffix();
        let _ = write!(
            html,
            "<tr><th scope=\"row\">{}{unit}</th><td class=\"def\">{}</td>",
            escape(&metric.title()),
            escape(&metric.sentence())
        );
        for &variant in variants {
            let text = outcome.summary(variant, metric).map_or("\u{2013}".into(), with_interval);
            let _ = write!(html, "<td class=\"n\">{text}</td>");
        }
        html += "</tr>\n";
    }
    html + "</tbody></table></div>\n"
}

fn method(experiment: &Experiment, outcome: &Evaluation, manifest: &Manifest) -> String {
    let spec = &manifest.spec;
    let (training, data, analysis) = (&spec.training, &spec.data, &experiment.analysis);
    let engine = match analysis.engine {
        Engine::Fast => {
            "exact blocked search, eigen-decomposition in f64, Barnes-Hut t-SNE (<code>engine = \"fast\"</code>)"
        }
        Engine::Linfa => "linfa-nn, linfa-reduction and linfa-tsne (<code>engine = \"linfa\"</code>)",
    };
    let runs = &outcome.selection.runs;
    let rates: Vec<f64> = runs.iter().map(|run| run.manifest.spec.training.peak_learning_rate).collect();
    let rate = match rates.iter().all(|rate| rate == &rates[0]) {
        true => format!("peak learning rate {:e}", rates[0]),
        false => {
            let each = (0..outcome.selection.variants.len()).filter_map(|variant| {
                let run = outcome.selection.of_variant(variant).next()?;
                let rate = run.manifest.spec.training.peak_learning_rate;
                Some(format!("{} {rate:.1e}", escape(outcome.name(variant))))
            });
            format!("peak learning rate of each variant ({})", each.collect::<Vec<_>>().join(", "))
        }
    };
    let mut conditions = String::new();
    for group in &outcome.groups {
        let Some(run) = group.variants.first().and_then(|&v| outcome.selection.of_variant(v).next()) else {
            continue;
        };
        let data = &run.manifest.spec.data;
        let mut said = Vec::new();
        if data.label_noise_percent > 0 {
            said.push(format!(
                "{} % of the training labels are wrong, all accuracies use the true labels",
                data.label_noise_percent
            ));
        }
        if !data.held_out_classes.is_empty() {
            said.push(format!(
                "{} are never trained on, and they alone are evaluated: the training images of these classes are the index, the validation images the queries",
                data.held_out_classes.join(", ")
            ));
        }
        if !said.is_empty() {
            let name = if group.condition.is_empty() { "All runs" } else { &group.condition };
            conditions += &format!(" <strong>{}:</strong> {}.", escape(name), escape(&said.join("; ")));
        }
    }
    let paragraphs = [
        format!(
            "Every variant trains the same encoder (ResNet-18 from a random start, 512 dimensions after global average pooling) under its own head with \
             cross-entropy. With one seed, the encoder\u{2019}s start and the order and augmentation of the images are the same for all heads. AdamW, {rate}, \
             weight decay {}, batches of {}, {} epochs under a one-cycle cosine schedule; the last epoch is scored.{conditions}",
            training.weight_decay, training.batch_size, training.epochs
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
        "Over seeds, a mean\u{2019}s 95 % interval is mean \u{b1} t(0.975, n \u{2212} 1) sd / \u{221a}n. With one seed there is none (n = 1); pictures then show the \
         interval of the accuracy over images, by 2,000 bootstrap resamples (percentiles), which says nothing of the spread between seeds."
            .into(),
        "Maps and settings that are read or chosen on the validation images are exploratory: the number that chose them is no estimate of their worth. \
         <code>cargo xtask tune</code> chooses on a part of the training images instead."
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

fn provenance(outcome: &Evaluation) -> String {
    let runs = &outcome.selection.runs;
    let distinct = |value: fn(&Manifest) -> String| {
        let values: BTreeSet<String> = runs.iter().map(|run| value(&run.manifest)).collect();
        values.into_iter().map(|value| escape(&value)).collect::<Vec<_>>().join("<br>")
    };
    let facts = [
        ("Commit", distinct(|m| m.commit.clone())),
        ("Version", distinct(|m| m.version.clone())),
        ("Device", distinct(|m| m.spec.compute.to_string())),
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
        let share = 100.0 * run.manifest.speed.data_wait_share;
        let hash = &run.manifest.spec_hash;
        let short = hash.get(..12).unwrap_or(hash);
        let _ =
            writeln!(html, "<td class=\"n\">{share:.1}</td><td class=\"mono\">{}</td></tr>", escape(short));
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
