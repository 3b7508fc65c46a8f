//! Linear probe: what a linear classifier reads from frozen embeddings.
//!
//! Multinomial logistic regression with an L2 penalty on the weights and none on the intercepts, as scikit-learn's
//! `LogisticRegression(C=1)`: minimise over W (C, D) and b (C)
//!
//! f(W, b) = sum over points of -ln softmax(W x + b)\[label\] + |W|^2 / 2.
//!
//! f is convex; L-BFGS (Nocedal 1980; Nocedal and Wright, Numerical Optimization, algorithm 7.5) with a full batch and a
//! backtracking line search finds its minimum. It starts from f's own curvature where all classes are equally likely, X'X /
//! C + 1 with X the embeddings: without it the mean direction that all embeddings share makes the search ten times as long.
//! Sums over points run over fixed blocks in a fixed order.

use std::collections::VecDeque;

use faer::linalg::matmul::matmul;
use faer::linalg::solvers::{Llt, Solve};
use faer::{Accum, Mat, MatMut, MatRef, Par, Side};
use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;

use crate::error::{Error, Result, check_lengths, check_matrix};
use crate::products::{check_embeddings, classes_of, contiguous, greatest, inner, rows_times};

/// Points of one task.
const BLOCK: usize = 256;
/// Points whose part of X'X is summed apart.
const CURVATURE_BLOCK: usize = 2048;
/// Pairs of steps and gradient changes that L-BFGS remembers.
const MEMORY: usize = 20;
/// The search ends when no component of the gradient of f / N exceeds this.
const TOLERANCE: f64 = 1e-8;
/// No search of a convex function of this kind comes near it.
const MAX_ITERATIONS: usize = 5000;

/// A fitted linear classifier.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearProbe {
    /// The classes that the training labels hold, rising.
    pub classes: Vec<u32>,
    /// (classes, D).
    pub weights: Array2<f64>,
    /// One a class; they add up to 0.
    pub intercepts: Vec<f64>,
}

/// How well a probe reads embeddings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProbeScore {
    /// Points counted.
    pub points: usize,
    /// Points of classes that the training labels lack: no classifier can name these, so they are not counted.
    pub left_out: usize,
    /// Fraction of points whose class gets the highest probability.
    pub accuracy: f64,
    /// Mean of -ln(probability of the label) in nats, taken from the logits: finite however small the probability.
    pub log_loss: f64,
}

impl LinearProbe {
    /// Fits `embeddings` (N, D), rows of unit length.
    ///
    /// # Errors
    /// One class only.
    pub fn fit(embeddings: ArrayView2<'_, f32>, labels: &[u32]) -> Result<Self> {
        check_embeddings(embeddings, labels)?;
        let (classes, places) = classes_of(labels);
        if classes.len() < 2 {
            let remedy = "pass a split with several classes";
            return Err(Error::undefined("a linear probe", "two classes or more are needed", remedy));
        }
        let dims = embeddings.ncols();
        let rows = contiguous(embeddings);
        let objective = Objective { rows: &rows, dims, places: &places, classes: classes.len() };
        let parameters = minimise(&objective)?;
        let weights = parameters.iter().enumerate().filter(|(at, _)| at % (dims + 1) < dims).map(|(_, v)| *v);
        Ok(Self {
            weights: Array2::from_shape_vec((classes.len(), dims), weights.collect()).expect("classes x D"),
            intercepts: parameters.iter().skip(dims).step_by(dims + 1).copied().collect(),
            classes,
        })
    }

    /// Probabilities (N, classes) of embeddings (N, D).
    pub fn probabilities(&self, embeddings: ArrayView2<'_, f32>) -> Result<Array2<f64>> {
        let mut logits = self.logits(embeddings)?;
        logits.rows_mut().into_iter().for_each(|mut row| _ = softmax(row.as_slice_mut().expect("standard layout")));
        Ok(logits)
    }

    fn logits(&self, embeddings: ArrayView2<'_, f32>) -> Result<Array2<f64>> {
        check_matrix("embeddings", embeddings)?;
        check_lengths("a row of the embeddings", embeddings.ncols(), "a row of the weights", self.weights.ncols())?;
        let mut logits = embeddings.as_standard_layout().mapv(f64::from).dot(&self.weights.t());
        for mut row in logits.rows_mut() {
            row.iter_mut().zip(&self.intercepts).for_each(|(logit, intercept)| *logit += intercept);
        }
        Ok(logits)
    }

    /// Accuracy and loss on `embeddings` (N, D) with their labels.
    ///
    /// # Errors
    /// No label of a class that it was fitted to.
    pub fn evaluate(&self, embeddings: ArrayView2<'_, f32>, labels: &[u32]) -> Result<ProbeScore> {
        check_lengths("embeddings", embeddings.nrows(), "labels", labels.len())?;
        let mut logits = self.logits(embeddings)?;
        let (mut points, mut right, mut loss) = (0, 0, 0.0);
        for (mut row, label) in logits.rows_mut().into_iter().zip(labels) {
            let Ok(place) = self.classes.binary_search(label) else { continue };
            let logit = row[place];
            points += 1;
            right += usize::from(greatest(row.iter().copied()).0 == place);
            loss += softmax(row.as_slice_mut().expect("standard layout")) - logit;
        }
        if points == 0 {
            let rule = "it was fitted to none of the classes of these points";
            return Err(Error::undefined("the score of a linear probe", rule, "pass points of classes it knows"));
        }
        let (left_out, count) = (labels.len() - points, points as f64);
        Ok(ProbeScore { points, left_out, accuracy: right as f64 / count, log_loss: loss / count })
    }
}

/// Logits to probabilities; returns ln of the sum of exp.
fn softmax(logits: &mut [f64]) -> f64 {
    let highest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for logit in logits.iter_mut() {
        *logit = (*logit - highest).exp();
        sum += *logit;
    }
    logits.iter_mut().for_each(|value| *value /= sum);
    highest + sum.ln()
}

/// f / N as a function of its parameters: a class after the other, each its D weights and its intercept.
struct Objective<'a> {
    rows: &'a [f32],
    dims: usize,
    places: &'a [usize],
    classes: usize,
}

impl Objective<'_> {
    /// Rows with a column of ones for the intercepts.
    fn extended(&self, rows: &[f32]) -> Vec<f64> {
        let mut extended = Vec::with_capacity(rows.len() / self.dims * (self.dims + 1));
        for row in rows.chunks_exact(self.dims) {
            extended.extend(row.iter().map(|&v| f64::from(v)));
            extended.push(1.0);
        }
        extended
    }

    /// Second derivative of f / N by one class's parameters at 0, on the subspace where the classes' parameters add up to
    /// 0: all gradients and steps lie there.
    fn curvature(&self) -> Result<Llt<f64>> {
        let width = self.dims + 1;
        let parts = self
            .rows
            .par_chunks(CURVATURE_BLOCK * self.dims)
            .map(|rows| {
                let extended = self.extended(rows);
                let extended = MatRef::from_row_major_slice(&extended, rows.len() / self.dims, width);
                let mut product = Mat::zeros(width, width);
                matmul(product.as_mut(), Accum::Replace, extended.transpose(), extended, 1.0, Par::Seq);
                product
            })
            .collect::<Vec<Mat<f64>>>();
        let points = self.places.len() as f64;
        let sum = parts.into_iter().reduce(|a, b| a + b).expect("at least one point");
        let curvature = Mat::from_fn(width, width, |i, j| {
            let penalty = if i == j && i < self.dims { 1.0 } else { 0.0 };
            (sum[(i, j)] / self.classes as f64 + penalty) / points
        });
        let failed = |error| Error::Library("faer", format!("curvature of the linear probe: {error:?}"));
        curvature.llt(Side::Lower).map_err(failed)
    }

    /// The value; the gradient goes to `gradient`.
    fn evaluate(&self, parameters: &[f64], gradient: &mut [f64]) -> f64 {
        let (width, points) = (self.dims + 1, self.places.len() as f64);
        let parts: Vec<(f64, Vec<f64>)> = self
            .rows
            .par_chunks(BLOCK * self.dims)
            .zip(self.places.par_chunks(BLOCK))
            .map(|(rows, places)| {
                let extended = self.extended(rows);
                let weights = MatRef::from_row_major_slice(parameters, self.classes, width);
                let mut residuals = rows_times(&extended, weights.transpose());
                let mut loss = 0.0;
                for (residual, &place) in residuals.chunks_exact_mut(self.classes).zip(places) {
                    let logit = residual[place];
                    loss += softmax(residual) - logit;
                    residual[place] -= 1.0;
                }
                let mut gradient = vec![0.0; self.classes * width];
                matmul(
                    MatMut::from_row_major_slice_mut(&mut gradient, self.classes, width),
                    Accum::Replace,
                    MatRef::from_row_major_slice(&residuals, places.len(), self.classes).transpose(),
                    MatRef::from_row_major_slice(&extended, places.len(), width),
                    1.0,
                    Par::Seq,
                );
                (loss, gradient)
            })
            .collect();
        let mut value = 0.0;
        gradient.fill(0.0);
        for (loss, part) in &parts {
            value += loss;
            gradient.iter_mut().zip(part).for_each(|(sum, g)| *sum += g);
        }
        for (at, (gradient, &parameter)) in gradient.iter_mut().zip(parameters).enumerate() {
            if at % width < self.dims {
                value += 0.5 * parameter * parameter;
                *gradient += parameter;
            }
            *gradient /= points;
        }
        value / points
    }
}

fn minimise(objective: &Objective<'_>) -> Result<Vec<f64>> {
    let size = objective.classes * (objective.dims + 1);
    let curvature = objective.curvature()?;
    let mut parameters = vec![0.0; size];
    let mut gradient = vec![0.0; size];
    let mut value = objective.evaluate(&parameters, &mut gradient);
    let mut memory: VecDeque<(Vec<f64>, Vec<f64>, f64)> = VecDeque::with_capacity(MEMORY);
    for _ in 0..MAX_ITERATIONS {
        if gradient.iter().all(|g| g.abs() <= TOLERANCE) {
            break;
        }
        let direction = descent(&gradient, &memory, &curvature, objective.classes);
        let slope = inner(&gradient, &direction);
        let mut next = vec![0.0; size];
        let mut next_gradient = vec![0.0; size];
        let mut step = 1.0;
        let next_value = loop {
            (0..size).for_each(|at| next[at] = parameters[at] + step * direction[at]);
            let next_value = objective.evaluate(&next, &mut next_gradient);
            // Near the minimum a right step changes f by less than its rounding.
            if next_value <= value + 1e-4 * step * slope + 4.0 * f64::EPSILON * value.abs() {
                break next_value;
            }
            step *= 0.5;
            // No point this near is lower: the minimum is as near as f64 can tell.
            if step < 1e-10 {
                return Ok(parameters);
            }
        };
        let moved: Vec<f64> = next.iter().zip(&parameters).map(|(a, b)| a - b).collect();
        let turned: Vec<f64> = next_gradient.iter().zip(&gradient).map(|(a, b)| a - b).collect();
        let curvature = inner(&moved, &turned);
        if curvature > 0.0 {
            if memory.len() == MEMORY {
                memory.pop_front();
            }
            memory.push_back((moved, turned, 1.0 / curvature));
        }
        (parameters, gradient, value) = (next, next_gradient, next_value);
    }
    Ok(parameters)
}

/// The two-loop recursion.
fn descent(
    gradient: &[f64],
    memory: &VecDeque<(Vec<f64>, Vec<f64>, f64)>,
    curvature: &Llt<f64>,
    classes: usize,
) -> Vec<f64> {
    let mut direction: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut factors = vec![0.0; memory.len()];
    for (at, (moved, turned, inverse)) in memory.iter().enumerate().rev() {
        factors[at] = inverse * inner(moved, &direction);
        direction.iter_mut().zip(turned).for_each(|(d, t)| *d -= factors[at] * t);
    }
    let width = direction.len() / classes;
    curvature.solve_in_place(MatMut::from_row_major_slice_mut(&mut direction, classes, width).transpose_mut());
    for (at, (moved, turned, inverse)) in memory.iter().enumerate() {
        let correction = factors[at] - inverse * inner(turned, &direction);
        direction.iter_mut().zip(moved).for_each(|(d, m)| *d += correction * m);
    }
    direction
}
