//! TensorBoard event files: records of TensorFlow's format, each one protocol buffer `Event`.
//!
//! The fields are those of `tensorflow/core/util/event.proto` and `framework/summary.proto`; a record is
//! its length, a masked CRC-32C of that, its bytes, and a masked CRC-32C of those (`lib/io/record_writer.h`).

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use decalign::train::{EpochReport, StartReport};
use decalign_data::Error;

use decalign_report::run_folder::unix_time;

/// One file of events, a record as soon as there is something to tell.
pub(super) struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Begins a file in a folder. Where a run goes on, viewers forget what an earlier file says from there on.
    pub(super) fn create(folder: &Path, start: &StartReport<'_>) -> decalign::Result<Self> {
        let name = format!(
            "events.out.tfevents.{:010}.{}.decalign",
            unix_time() as u64,
            std::process::id()
        );
        let path = folder.join(name);
        let file = File::create(&path).map_err(|error| Error::io(&path, error))?;
        let mut events = Self { path, file };
        events.write(0, &bytes(3, b"brain.Event:2"))?;
        // `SessionLog { status: START }`
        events.write(start.epoch, &bytes(7, &varint(1, 1)))?;
        Ok(events)
    }

    /// The numbers of an epoch, at the step of its number.
    pub(super) fn write_epoch(&mut self, report: &EpochReport) -> decalign::Result<()> {
        let train = report
            .losses
            .iter()
            .map(|(name, value)| (format!("train/{name}"), *value));
        let valid = report
            .valid
            .iter()
            .map(|(name, value)| (format!("valid/{name}"), value));
        let others = [
            ("learning_rate", report.learning_rate),
            ("gradient_norm", report.gradient_norm),
            ("seconds", report.seconds),
            ("valid/loss", report.valid_loss),
        ];
        let others = others.map(|(name, value)| (name.to_owned(), value));
        let mut summary = Vec::new();
        for (tag, value) in train.chain(valid).chain(others) {
            let mut scalar = bytes(1, tag.as_bytes());
            scalar.push(2 << 3 | 5);
            scalar.extend((value as f32).to_le_bytes());
            summary.extend(bytes(1, &scalar));
        }
        self.write(report.epoch, &bytes(5, &summary))
    }

    fn write(&mut self, step: usize, what: &[u8]) -> decalign::Result<()> {
        let mut event = vec![1 << 3 | 1];
        event.extend(unix_time().to_le_bytes());
        event.extend(varint(2, step as u64));
        event.extend(what);
        let length = (event.len() as u64).to_le_bytes();
        let mut record = length.to_vec();
        record.extend(masked(&length).to_le_bytes());
        record.extend(&event);
        record.extend(masked(&event).to_le_bytes());
        // In one piece: whoever reads meanwhile sees whole records.
        let written = self
            .file
            .write_all(&record)
            .and_then(|()| self.file.flush());
        Ok(written.map_err(|error| Error::io(&self.path, error))?)
    }
}

/// The checksum of a record: rotated and shifted, so that records may hold checksums.
fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

/// Field `number` of a protocol buffer, an integer.
fn varint(number: u8, value: u64) -> Vec<u8> {
    let mut field = vec![number << 3];
    push_varint(&mut field, value);
    field
}

/// Field `number` of a protocol buffer, text, bytes or a message.
fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    push_varint(&mut field, content.len() as u64);
    field.extend(content);
    field
}

fn push_varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}
