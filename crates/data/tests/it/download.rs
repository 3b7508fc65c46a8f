//! Downloads from a local server that breaks off, stalls, refuses, ignores ranges or serves the wrong file.

use crate::quiet;
use faceoff_data::{Download, Error, Patience};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PATIENCE: Patience = Patience {
    timeout: Duration::from_millis(300),
    attempts: 3,
    window: Duration::from_millis(500),
    least_bytes: 1000,
};

/// What the server does with a request.
#[derive(Clone, Copy)]
enum Manner {
    /// Sends what is asked for.
    Good,
    /// Closes the connection after so many bytes.
    BreaksOffAfter(usize),
    /// Sends so many bytes, then nothing more.
    StallsAfter(usize),
    /// Answers with a status and no body.
    Status(u16),
    /// Sends everything, whatever range is asked for.
    IgnoresRanges,
    /// Sends a byte now and then.
    Drips,
    /// Sends without end, and does not say how much.
    NeverEnds,
}

fn body() -> Vec<u8> {
    (0..50_000u32).map(|index| (index * 31 % 251) as u8).collect()
}

/// md5 of [`body`], by the `md5sum` command.
const BODY_MD5: &str = "e6cf7f0c19d94b6877a2c0e06d5a1bec";

/// Serves `body`, one manner a request and then the last one for ever; notes the ranges asked for.
fn serve(manners: Vec<Manner>) -> (Download, Arc<Mutex<Vec<Option<usize>>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/set.tgz", listener.local_addr().unwrap());
    let ranges = Arc::new(Mutex::new(Vec::new()));
    let seen = ranges.clone();
    std::thread::spawn(move || {
        for (index, stream) in listener.incoming().enumerate() {
            let manner = manners[index.min(manners.len() - 1)];
            let seen = seen.clone();
            std::thread::spawn(move || answer(stream.unwrap(), manner, &seen));
        }
    });
    (Download { url, md5: BODY_MD5.into(), most_bytes: 60_000 }, ranges)
}

fn answer(mut stream: TcpStream, manner: Manner, seen: &Mutex<Vec<Option<usize>>>) {
    let mut range = None;
    for line in BufReader::new(stream.try_clone().unwrap()).lines() {
        let line = line.unwrap().to_lowercase();
        if let Some(value) = line.strip_prefix("range: bytes=") {
            range = value.trim_end_matches('-').parse::<usize>().ok();
        }
        if line.is_empty() {
            break;
        }
    }
    seen.lock().unwrap().push(range);
    let body = body();
    let start = range.unwrap_or(0);
    let part = &body[start.min(body.len())..];
    let (status, headers, part) = match manner {
        Manner::Status(status) => (status, String::new(), &[][..]),
        Manner::IgnoresRanges => (200, String::new(), &body[..]),
        _ if range.is_some() => {
            (206, format!("Content-Range: bytes {start}-{}/{}\r\n", body.len() - 1, body.len()), part)
        }
        _ => (200, String::new(), part),
    };
    if matches!(manner, Manner::NeverEnds) {
        let _ = stream.write_all(b"HTTP/1.1 200 X\r\nConnection: close\r\n\r\n");
        while stream.write_all(&[7; 4096]).is_ok() {}
        return;
    }
    let _ =
        write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{headers}Connection: close\r\n\r\n", part.len());
    match manner {
        Manner::BreaksOffAfter(count) => drop(stream.write_all(&part[..count.min(part.len())])),
        Manner::StallsAfter(count) => {
            let _ = stream.write_all(&part[..count.min(part.len())]);
            std::thread::sleep(Duration::from_secs(5));
        }
        Manner::Drips => {
            for byte in part.chunks(1) {
                if stream.write_all(byte).is_err() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        _ => drop(stream.write_all(part)),
    }
}

#[test]
fn a_broken_or_stalled_download_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("set.tgz");
    let (download, ranges) = serve(vec![Manner::BreaksOffAfter(20_000), Manner::StallsAfter(10_000), Manner::Good]);
    download.run(&target, PATIENCE, &quiet).unwrap();
    assert_eq!(std::fs::read(&target).unwrap(), body());
    let ranges = ranges.lock().unwrap();
    assert_eq!(ranges[0], None);
    assert!(ranges[1].unwrap() > 0 && ranges[2].unwrap() > ranges[1].unwrap(), "{ranges:?}");
    assert!(!folder.path().join("set.tgz.part").exists());
}

#[test]
fn what_an_earlier_call_left_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("set.tgz");
    std::fs::write(folder.path().join("set.tgz.part"), &body()[..30_000]).unwrap();
    let (download, ranges) = serve(vec![Manner::Good]);
    download.run(&target, PATIENCE, &quiet).unwrap();
    assert_eq!(std::fs::read(&target).unwrap(), body());
    assert_eq!(*ranges.lock().unwrap(), [Some(30_000)]);
}

#[test]
fn a_server_without_ranges_starts_over() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("set.tgz");
    let (download, _) = serve(vec![Manner::BreaksOffAfter(20_000), Manner::IgnoresRanges]);
    download.run(&target, PATIENCE, &quiet).unwrap();
    assert_eq!(std::fs::read(&target).unwrap(), body());
}

#[test]
fn a_missing_file_is_answered_at_once_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let (download, ranges) = serve(vec![Manner::Status(404)]);
    let error = download.run(&folder.path().join("set.tgz"), PATIENCE, &quiet).unwrap_err();
    assert!(error.is_unavailable());
    let message = error.to_string();
    for part in [&download.url, BODY_MD5, "the server answers 404", "--archive FILE", "--data DIR"] {
        assert!(message.contains(part), "{message} lacks {part}");
    }
    assert_eq!(ranges.lock().unwrap().len(), 1);
}

#[test]
fn a_server_that_never_recovers_is_given_up() {
    for manner in [Manner::StallsAfter(0), Manner::Status(503)] {
        let folder = tempfile::tempdir().unwrap();
        let (download, ranges) = serve(vec![manner]);
        let error = download.run(&folder.path().join("set.tgz"), PATIENCE, &quiet).unwrap_err();
        assert!(error.is_unavailable(), "{error}");
        assert_eq!(ranges.lock().unwrap().len(), 3);
    }
    // A port that nobody listens on.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://user:secret@{free}/set.tgz?token=hidden");
    let download = Download { url, md5: BODY_MD5.into(), most_bytes: 60_000 };
    let folder = tempfile::tempdir().unwrap();
    let error = download.run(&folder.path().join("set.tgz"), PATIENCE, &quiet).unwrap_err();
    assert!(error.is_unavailable());
    let message = error.to_string();
    assert!(message.contains(&format!("http://{free}/set.tgz cannot")), "{message}");
    assert!(!message.contains("secret") && !message.contains("hidden"), "{message}");
}

#[test]
fn a_server_that_drips_or_never_ends_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("set.tgz");
    for (manner, said, requests) in [
        (Manner::Drips, "bytes came within", 1..=1),
        // A byte a request is a drip too, and no reason to ask again at once.
        (Manner::BreaksOffAfter(1), "bytes came within", 2..=4),
        (Manner::NeverEnds, "more bytes than the file has", 1..=1),
    ] {
        let (download, ranges) = serve(vec![manner]);
        let message = download.run(&target, PATIENCE, &quiet).unwrap_err().to_string();
        assert!(message.contains(said), "{message}");
        assert!(requests.contains(&ranges.lock().unwrap().len()), "{ranges:?}");
        let _ = std::fs::remove_file(folder.path().join("set.tgz.part"));
    }
    // Nothing was asked for that the server could not have.
    let (download, _) = serve(vec![Manner::Status(416)]);
    assert!(download.run(&target, PATIENCE, &quiet).unwrap_err().to_string().contains("answers 416"));
}

#[test]
fn a_wrong_file_is_never_kept() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("set.tgz");
    let (download, _) = serve(vec![Manner::Good]);
    let wrong = Download { md5: "00000000000000000000000000000000".into(), ..download };
    let error = wrong.run(&target, PATIENCE, &quiet).unwrap_err();
    assert!(matches!(error, Error::WrongFile { .. }) && !error.is_unavailable(), "{error}");
    assert!(error.to_string().contains(BODY_MD5), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
