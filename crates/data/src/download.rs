//! A download that goes on where it broke off, into a `.part` file, and is believed only after its md5.

use crate::archive::md5_of;
use crate::{Error, ProgressFn, Result};
use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What is downloaded.
#[derive(Debug, Clone)]
pub struct Download {
    /// Its address.
    pub url: String,
    /// The md5 that it must have, in hexadecimal.
    pub md5: String,
    /// More bytes than it can have: where a server sends more it is not the file.
    pub most_bytes: u64,
}

/// How long to wait, and how often to try.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For the connection, for the answer, and for each piece of it.
    pub timeout: Duration,
    /// Requests in a row that bring nothing new before giving up.
    pub attempts: u32,
    /// How long a server may take for `least_bytes`.
    pub window: Duration,
    /// Bytes that have to come within each `window`, by however many requests.
    pub least_bytes: u64,
}

/// What has come since when, to see that enough comes within each window of [`Patience`].
struct Pace {
    since: Instant,
    before: u64,
}

impl Pace {
    /// Where a window is over: ok and the next one, or the bytes that came, too few.
    fn check(&mut self, done: u64, patience: Patience) -> std::result::Result<(), u64> {
        if self.since.elapsed() > patience.window {
            let came = done.saturating_sub(self.before);
            if came < patience.least_bytes {
                return Err(came);
            }
            *self = Self { since: Instant::now(), before: done };
        }
        Ok(())
    }
}

/// Why a request ended before the end of the file.
enum Interruption {
    /// Another request may bring the rest.
    Broken(String),
    /// Another request would end alike.
    Final(Error),
}

impl Download {
    /// Downloads to `target`. What an earlier call left in `<target>.part` is kept and continued; a file with another
    /// md5 is removed.
    pub fn run(&self, target: &Path, patience: Patience, progress: ProgressFn) -> Result<()> {
        let part = part_of(target);
        if let Some(folder) = target.parent() {
            std::fs::create_dir_all(folder).map_err(Error::io("create folder", folder))?;
        }
        let agent = ureq::Agent::config_builder()
            .timeout_connect(Some(patience.timeout))
            .timeout_recv_response(Some(patience.timeout))
            .timeout_per_read(Some(patience.timeout))
            .http_status_as_error(false)
            .build()
            .new_agent();
        let mut idle = 0;
        let mut pace = Pace { since: Instant::now(), before: length(&part) };
        loop {
            let before = length(&part);
            match self.request(&agent, &part, patience, &mut pace, progress) {
                Ok(()) => break,
                Err(Interruption::Final(error)) => return Err(error),
                Err(Interruption::Broken(problem)) => {
                    let now = length(&part);
                    if now > before {
                        idle = 0;
                    } else {
                        // How long nothing may come is a matter of attempts.
                        idle += 1;
                        pace = Pace { since: Instant::now(), before: now };
                    }
                    if idle == patience.attempts {
                        return Err(self.failed(problem));
                    }
                    if now < before + patience.least_bytes {
                        std::thread::sleep(patience.timeout.min(Duration::from_secs(1)) * idle.max(1));
                    }
                }
            }
        }
        let found = md5_of(&part)?;
        if found != self.md5 {
            std::fs::remove_file(&part).map_err(Error::io("remove", &part))?;
            return Err(Error::WrongFile { url: self.shown_url(), md5: self.md5.clone(), found });
        }
        std::fs::rename(&part, target).map_err(Error::io("rename", &part))
    }

    fn failed(&self, problem: impl ToString) -> Error {
        let problem = problem.to_string().replace(&self.url, &self.shown_url());
        Error::Download { url: self.shown_url(), md5: self.md5.clone(), problem }
    }

    /// The address as it may be shown: without name and password, and without what stands behind a `?`, which may be a key.
    fn shown_url(&self) -> String {
        let url = self.url.split(['?', '#']).next().unwrap_or_default();
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let host = host.rsplit('@').next().unwrap_or_default();
        format!("{scheme}://{host}/{path}")
    }

    /// One request for what is missing, appended to `part`. Ends well at the end of the file only.
    fn request(
        &self,
        agent: &ureq::Agent,
        part: &Path,
        patience: Patience,
        pace: &mut Pace,
        progress: ProgressFn,
    ) -> std::result::Result<(), Interruption> {
        let begun = length(part);
        let mut request = agent.get(&self.url);
        if begun > 0 {
            request = request.header("Range", format!("bytes={begun}-"));
        }
        let response = request.call().map_err(|error| Interruption::Broken(error.to_string()))?;
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let refused = |problem: &str| Interruption::Final(self.failed(problem));
        let (start, total) = match response.status().as_u16() {
            // Nothing was asked, or the server ignores ranges: from the beginning.
            200 => (0, header("content-length").and_then(|text| text.parse::<u64>().ok())),
            206 => content_range(header("content-range").unwrap_or_default())
                .filter(|(start, _)| *start == begun)
                .ok_or_else(|| refused("the server answers with another range than asked"))?,
            // All of it is there already; the md5 decides whether it is right.
            416 if begun > 0 => return Ok(()),
            status @ (408 | 429 | 500..=599) => {
                return Err(Interruption::Broken(format!("the server answers {status}")));
            }
            status => return Err(refused(&format!("the server answers {status}"))),
        };
        let disk = |error| Interruption::Final(Error::io("write", part)(error));
        let mut file = OpenOptions::new().create(true).write(true).truncate(start == 0).open(part).map_err(disk)?;
        file.seek(SeekFrom::Start(start)).map_err(disk)?;
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; 1 << 16];
        let mut done = start;
        pace.before = pace.before.min(start);
        loop {
            let count = body.read(&mut buffer).map_err(|error| Interruption::Broken(error.to_string()))?;
            if count == 0 {
                break;
            }
            done += count as u64;
            if done > total.unwrap_or(u64::MAX).min(self.most_bytes) {
                drop(file);
                std::fs::remove_file(part).map_err(disk)?;
                return Err(refused("the server sends more bytes than the file has"));
            }
            file.write_all(&buffer[..count]).map_err(disk)?;
            pace.check(done, patience).map_err(|came| {
                let seconds = patience.window.as_secs_f64();
                refused(&format!("only {came} bytes came within {seconds} s; what came is kept for another try"))
            })?;
            progress("download", done, total.unwrap_or(0));
        }
        file.sync_all().map_err(disk)?;
        match total {
            Some(total) if done < total => {
                Err(Interruption::Broken(format!("the connection broke off after {done} of {total} bytes")))
            }
            _ => Ok(()),
        }
    }
}

/// `bytes 5-9/10` to (5, Some(10)).
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()))
}

fn part_of(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}
