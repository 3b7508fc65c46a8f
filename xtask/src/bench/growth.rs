//! `cargo xtask bench growth`: what a whole benchmark takes, in time and memory, as its data grow: more classes, more embeddings,
//! more images.
//!
//! Each size is one `benchmark` in a process of its own, of one head, one epoch and one thread. What it says on stderr tells which part is
//! at work; its processor time and peak memory are read from /proc, so that this needs Linux.

use super::{exponent, kib_of, print_table};
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use faceoff::Program;
use faceoff_report::{GrowthCurve, growth_picture};
use faceoff_runs::write_atomically;
use image::{ExtendedColorType, codecs::jpeg::JpegEncoder};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// How often the memory of the process is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Of /proc/PID/stat: Linux counts in hundredths of a second on every processor that Rust knows.
const TICKS_PER_SECOND: f64 = 100.0;
/// Numbers to which embeddings are projected.
const OUTPUTS: usize = 128;
/// A row's noise beside a class centre of length 1.
const NOISE: f32 = 2.0;
/// Side of made-up images.
const IMAGE_PX: usize = 32;

/// What grows.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Axis {
    /// Classes of 55,000 embeddings of 128 numbers.
    Classes,
    /// Embeddings of 512 numbers in 100 classes, a fifth for validation.
    Embeddings,
    /// Images of 32 px in 300 classes, a fifth for validation.
    Images,
}

/// How large, of what.
#[derive(Args)]
pub(crate) struct GrowthArgs {
    /// Only these.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Axis::Classes, Axis::Embeddings, Axis::Images])]
    axes: Vec<Axis>,
    /// The largest size of any axis.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    largest: usize,
    /// Folder of the pictures and the table [default: reports/bench/ in the root folder]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Folder for made-up data and reports, some gigabytes, which are removed again [default: that of temporary files]
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
}

impl Axis {
    const fn sizes(self) -> &'static [usize] {
        match self {
            Self::Classes => &[100, 300, 1_000, 3_000, 11_000],
            Self::Embeddings => &[3_000, 10_000, 30_000, 100_000],
            Self::Images => &[1_000, 3_000, 10_000, 30_000, 100_000],
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Classes => "classes of 55,000 embeddings of 128 numbers",
            Self::Embeddings => "embeddings of 512 numbers in 100 classes",
            Self::Images => "images of 32 px in 300 classes",
        }
    }

    fn name(self) -> String {
        self.to_possible_value().expect("no axis is hidden").get_name().to_string()
    }
}

/// The parts of a benchmark, in their order.
const PARTS: [&str; 3] = ["opening", "training and embedding", "measuring and report"];

/// Processor seconds and peak MiB of each part.
type Costs = [(f64, f64); PARTS.len()];

/// Measures, prints a table, writes a CSV and two pictures for each axis.
pub(crate) fn run(program: &Program, args: &GrowthArgs) -> Result<ExitCode> {
    let out = args.out.clone().unwrap_or_else(|| program.path("reports/bench"));
    for &axis in &args.axes {
        let mut measured: Vec<(usize, Costs)> = Vec::new();
        for &size in axis.sizes().iter().filter(|&&size| size <= args.largest) {
            eprintln!("bench: {size} {}", axis.title());
            let folder = args.work.as_ref().map_or_else(tempfile::tempdir, tempfile::tempdir_in)?;
            let costs = benchmark(program, axis, size, folder.path())
                .with_context(|| format!("the benchmark of {size} {} failed", axis.title()))?;
            measured.push((size, costs));
            // What is measured is written at once: the largest take long.
            write(&out, axis, &measured)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One benchmark on made-up data below `folder`.
fn benchmark(program: &Program, axis: Axis, size: usize, folder: &Path) -> Result<Costs> {
    let experiment = folder.join("growth.toml");
    let text = format!("extends = \"quick\"\nname = \"growth\"\n[projection]\noutputs = {OUTPUTS}\n");
    std::fs::write(&experiment, text)?;
    let mut command = Command::new(std::env::current_exe().context("the program does not find itself")?);
    command.arg("--root").arg(&program.root).arg("benchmark").arg(&experiment);
    command.args(["--heads", "CosFace", "--epochs", "1", "--threads", "1", "--device", "cpu", "--thumbnails", "none"]);
    command.arg("--out").arg(folder.join("reports")).arg("--cache").arg(folder.join("cache"));
    let data = match axis {
        Axis::Images => {
            command.args(["--image-size", &IMAGE_PX.to_string()]).arg("--data");
            made_up_images(&folder.join("images"), size)?
        }
        Axis::Classes | Axis::Embeddings => {
            let (classes, rows, numbers) =
                if axis == Axis::Embeddings { (100, size, 512) } else { (size, 55_000, 128) };
            let table = made_up_embeddings(folder, classes, rows, numbers)?;
            command.arg("--labels").arg(&table).arg("--embeddings");
            table.with_extension("npy")
        }
    };
    watch(command.arg(data))
}

/// Runs a benchmark to its end, watching what it takes.
fn watch(command: &mut Command) -> Result<Costs> {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let lines = BufReader::new(child.stderr.take().context("it says nothing")?).lines();
    let (said, hear) = mpsc::channel();
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| _ = said.send(line)));
    let mut costs = Costs::default();
    let (mut part, mut before, mut last) = (0, 0.0, Vec::new());
    let status = loop {
        let heard = hear.recv_timeout(LOOK_EVERY);
        if let Some(mib) = kib_of(&child.id().to_string(), "VmHWM") {
            costs[part].1 = mib as f64 / 1024.0;
        }
        match heard {
            Ok(line) => {
                if line.contains(" runs to do") || line.starts_with("measuring ") {
                    let now = processor_seconds(&child)?;
                    costs[part].0 = now - before;
                    (part, before) = (part + 1, now);
                    // The peak counts anew.
                    std::fs::write(format!("/proc/{}/clear_refs", child.id()), "5")?;
                }
                last.push(line);
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            // Its end, before it is waited for: until then the time stands in /proc.
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                while !has_ended(&child)? {
                    std::thread::sleep(LOOK_EVERY);
                }
                costs[part].0 = processor_seconds(&child)? - before;
                break child.wait()?;
            }
        }
    };
    if !status.success() || part + 1 != PARTS.len() {
        bail!("{status}, after {} of {} parts:\n{}", part, PARTS.len(), last.join("\n"));
    }
    Ok(costs)
}

/// The fields of /proc/PID/stat behind the name, from the state on.
fn stat(child: &Child) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", child.id()))?;
    let (_, fields) = text.rsplit_once(") ").context("/proc says nothing of the process")?;
    Ok(fields.split(' ').map(String::from).collect())
}

fn has_ended(child: &Child) -> Result<bool> {
    Ok(stat(child)?[0] == "Z")
}

/// What the process has taken of processors so far.
fn processor_seconds(child: &Child) -> Result<f64> {
    let fields = stat(child)?;
    // User and system time.
    let ticks: u64 = fields[11..=12].iter().map(|field| field.parse::<u64>()).sum::<Result<_, _>>()?;
    Ok(ticks as f64 / TICKS_PER_SECOND)
}

/// `made-up.npy` and `made-up.csv`, whose path is returned: unit rows around a centre for each class, with noise around all.
fn made_up_embeddings(folder: &Path, classes: usize, rows: usize, numbers: usize) -> Result<PathBuf> {
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let scale = (numbers as f32).sqrt().recip();
    let mut normal =
        |scale: f32| -> Vec<f32> { (0..numbers).map(|_| scale * random.sample::<f32, _>(StandardNormal)).collect() };
    let centers: Vec<Vec<f32>> = (0..classes).map(|_| normal(scale)).collect();
    let table = folder.join("made-up.csv");
    let mut labels = BufWriter::new(std::fs::File::create(&table)?);
    let mut matrix = BufWriter::new(std::fs::File::create(table.with_extension("npy"))?);
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {numbers}), }}");
    // The magic string, version 1.0, and a header that ends at 128 bytes: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
    matrix.write_all(b"\x93NUMPY\x01\x00\x76\x00")?;
    writeln!(matrix, "{header:<117}")?;
    writeln!(labels, "label")?;
    for row in 0..rows {
        let mut values = normal(NOISE * scale);
        values.iter_mut().zip(&centers[row % classes]).for_each(|(value, center)| *value += center);
        let norm = values.iter().map(|value| value * value).sum::<f32>().sqrt();
        for value in values {
            matrix.write_all(&(value / norm).to_le_bytes())?;
        }
        writeln!(labels, "class {}", row % classes)?;
    }
    matrix.flush()?;
    labels.flush()?;
    Ok(table)
}

/// A folder for each of 300 classes with JPEG files: two colours of the class, and noise.
fn made_up_images(folder: &Path, count: usize) -> Result<PathBuf> {
    const CLASSES: usize = 300;
    for class in 0..CLASSES {
        std::fs::create_dir_all(folder.join(format!("class {class}")))?;
    }
    for index in 0..count {
        let class = index % CLASSES;
        let mut of_class = ChaCha8Rng::seed_from_u64(class as u64);
        let colors: [[f32; 3]; 2] = of_class.random();
        let mut random = ChaCha8Rng::seed_from_u64((CLASSES + index) as u64);
        let pixels: Vec<u8> = (0..IMAGE_PX * IMAGE_PX * 3)
            .map(|at| {
                let color = colors[at / 3 % IMAGE_PX * 2 / IMAGE_PX][at % 3];
                (128.0 * color + 127.0 * random.random::<f32>()) as u8
            })
            .collect();
        let path = folder.join(format!("class {class}/{index}.jpg"));
        let mut file = BufWriter::new(std::fs::File::create(path)?);
        let side = IMAGE_PX as u32;
        JpegEncoder::new(&mut file).encode(&pixels, side, side, ExtendedColorType::Rgb8)?;
        file.flush()?;
    }
    Ok(folder.into())
}

/// The table and the pictures of an axis.
fn write(out: &Path, axis: Axis, measured: &[(usize, Costs)]) -> Result<()> {
    let name = axis.name();
    let mut header = vec!["size".to_string()];
    for part in PARTS {
        header.extend([format!("{part}, processor seconds"), format!("{part}, peak MiB")]);
    }
    let mut csv = format!("{}\n", header.iter().map(|cell| format!("\"{cell}\"")).collect::<Vec<_>>().join(","));
    for (size, costs) in measured {
        let cells: Vec<String> = costs.iter().map(|(seconds, mib)| format!("{seconds:.2},{mib:.0}")).collect();
        csv += &format!("{size},{}\n", cells.join(","));
    }
    write_atomically(&out.join(format!("benchmark-{name}.csv")), |file| file.write_all(csv.as_bytes()))?;
    let mut rows = Vec::new();
    for (what, y) in [("Time", "processor seconds"), ("Memory", "peak MiB")] {
        let curves: Vec<GrowthCurve> = PARTS
            .iter()
            .enumerate()
            .map(|(part, name)| {
                let cost = |&(size, costs): &(usize, Costs)| {
                    let (seconds, mib) = costs[part];
                    // Less than a tick is none.
                    (size as f64, if what == "Time" { seconds.max(1.0 / TICKS_PER_SECOND) } else { mib })
                };
                let points: Vec<(f64, f64)> = measured.iter().map(cost).collect();
                let power = exponent(&points).map_or(String::new(), |power| format!("n^{power:.1}"));
                let largest = points.last().map_or(String::new(), |&(_, y)| format!("{y:.1}"));
                rows.push([name.to_string(), y.to_string(), largest, power.clone()]);
                GrowthCurve { name: format!("{name}: {power}"), points }
            })
            .collect();
        let alt = format!("{what} of a benchmark's parts over the number of {}", axis.title());
        let picture = growth_picture(&alt, axis.title(), y, &curves)?;
        let path = out.join(format!("benchmark-{name}-{}.svg", what.to_lowercase()));
        write_atomically(&path, |file| file.write_all(picture.as_bytes()))?;
    }
    let largest = measured.last().map_or(0, |&(size, _)| size);
    print_table(&["part", "of", &format!("at {largest}"), "exponent"], &rows);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use faceoff_runs::NpyMatrix;

    #[test]
    fn made_up_embeddings_are_a_matrix_with_a_label_for_each_row() {
        let folder = tempfile::tempdir().unwrap();
        let table = made_up_embeddings(folder.path(), 3, 7, 5).unwrap();
        assert_eq!(std::fs::read_to_string(&table).unwrap().lines().count(), 8);
        let matrix = NpyMatrix::open(&table.with_extension("npy")).unwrap();
        assert_eq!((matrix.rows(), matrix.columns()), (7, 5));
    }
}
