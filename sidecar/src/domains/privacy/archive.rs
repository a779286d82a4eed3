//! The archive of an export: a zip file with lines of JSON for each table, the files, and a manifest with columns and hashes.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom, Write},
    path::Path,
};

use aws_lc_rs::digest::{Context, SHA256, digest};
use serde_json::{Map, Value, json};
use zip::{CompressionMethod, ZipWriter, result::ZipResult, write::SimpleFileOptions};

/// An entry of this size needs zip's 64-bit fields, with room for what compression adds.
const LARGE: u64 = 3 << 30;

/// The file that is being written. It has no name, so a crash leaves nothing behind.
pub(super) struct Archive {
    zip: ZipWriter<File>,
    entry: Option<Entry>,
    tables: Vec<Value>,
    files: Vec<Value>,
}

struct Entry {
    path: String,
    bytes: u64,
    rows: u64,
    hash: Context,
    described: Map<String, Value>,
    is_table: bool,
}

/// A finished archive.
pub(super) struct Finished {
    pub file: File,
    pub bytes: u64,
    pub sha256: String,
}

impl Archive {
    pub(super) fn new(folder: &Path) -> io::Result<Self> {
        Ok(Self {
            zip: ZipWriter::new(tempfile::tempfile_in(folder)?),
            entry: None,
            tables: Vec::new(),
            files: Vec::new(),
        })
    }

    /// Rows of a table. Those of one table come one after the other.
    pub(super) fn rows(
        &mut self,
        table: &str,
        columns: &Value,
        lines: &str,
        rows: u64,
    ) -> ZipResult<()> {
        let path = format!("data/{}.jsonl", safe(table));
        if self.entry.as_ref().is_none_or(|entry| entry.path != path) {
            let mut described = Map::new();
            described.insert("table".to_owned(), json!(table));
            described.insert("columns".to_owned(), columns.clone());
            self.begin(path, described, true, 0)?;
        }
        if let Some(entry) = &mut self.entry {
            entry.rows += rows;
        }
        self.write(lines.as_bytes())
    }

    /// Begins a file.
    pub(super) fn file(&mut self, bucket: &str, name: &str, bytes: u64) -> ZipResult<()> {
        let path = format!("files/{}/{}", safe(bucket), safe(name));
        self.begin(path, described(bucket, name), false, bytes)
    }

    /// A file that is not in the archive.
    pub(super) fn missing(&mut self, bucket: &str, name: &str, bytes: u64, why: &str) {
        let mut file = described(bucket, name);
        file.insert("bytes".to_owned(), json!(bytes));
        file.insert("missing".to_owned(), json!(why));
        // The entry before it comes before it in the manifest, too.
        self.end();
        self.files.push(Value::Object(file));
    }

    /// More of the entry.
    pub(super) fn write(&mut self, part: &[u8]) -> ZipResult<()> {
        if let Some(entry) = &mut self.entry {
            entry.bytes += part.len() as u64;
            entry.hash.update(part);
        }
        Ok(self.zip.write_all(part)?)
    }

    /// Writes the manifest, which names all entries, and ends the archive.
    pub(super) fn finish(mut self, mut head: Map<String, Value>) -> ZipResult<Finished> {
        self.end();
        head.insert("tables".to_owned(), Value::Array(self.tables));
        head.insert("files".to_owned(), Value::Array(self.files));
        self.zip.start_file("manifest.json", options(0))?;
        serde_json::to_writer_pretty(&mut self.zip, &head).map_err(io::Error::from)?;
        let mut file = self.zip.finish()?;
        let bytes = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(0))?;
        let sha256 = hash_of(&mut file)?;
        Ok(Finished {
            file,
            bytes,
            sha256,
        })
    }

    fn begin(
        &mut self,
        path: String,
        described: Map<String, Value>,
        is_table: bool,
        bytes: u64,
    ) -> ZipResult<()> {
        self.end();
        self.zip.start_file(path.as_str(), options(bytes))?;
        self.entry = Some(Entry {
            path,
            bytes: 0,
            rows: 0,
            hash: Context::new(&SHA256),
            described,
            is_table,
        });
        Ok(())
    }

    fn end(&mut self) {
        let Some(entry) = self.entry.take() else {
            return;
        };
        let mut line = entry.described;
        line.insert("path".to_owned(), json!(entry.path));
        line.insert("bytes".to_owned(), json!(entry.bytes));
        line.insert(
            "sha256".to_owned(),
            json!(hex(entry.hash.finish().as_ref())),
        );
        if entry.is_table {
            line.insert("rows".to_owned(), json!(entry.rows));
            self.tables.push(Value::Object(line));
        } else {
            self.files.push(Value::Object(line));
        }
    }
}

fn described(bucket: &str, name: &str) -> Map<String, Value> {
    let mut file = Map::new();
    file.insert("bucket".to_owned(), json!(bucket));
    file.insert("name".to_owned(), json!(name));
    file
}

fn options(bytes: u64) -> SimpleFileOptions {
    SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .large_file(bytes >= LARGE)
        .unix_permissions(0o600)
}

/// A path that stays inside the folder into which it is unpacked, on every system.
fn safe(path: &str) -> String {
    let segments = path.split('/').map(|segment| {
        let segment: String = segment
            .chars()
            .map(|one| match one {
                '\\' | ':' => '_',
                one if one.is_control() => '_',
                one => one,
            })
            .collect();
        match segment.as_str() {
            "" | "." | ".." => "_".to_owned(),
            _ => segment,
        }
    });
    segments.collect::<Vec<_>>().join("/")
}

fn hash_of(file: &mut File) -> io::Result<String> {
    struct Hash(Context);
    impl Write for Hash {
        fn write(&mut self, part: &[u8]) -> io::Result<usize> {
            self.0.update(part);
            Ok(part.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut hash = Hash(Context::new(&SHA256));
    io::copy(file, &mut hash)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(hex(hash.0.finish().as_ref()))
}

/// The SHA-256 of a text, in hexadecimal.
pub(super) fn hex_digest(text: &[u8]) -> String {
    hex(digest(&SHA256, text).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use zip::ZipArchive;

    use super::*;

    #[test]
    fn the_manifest_names_every_entry_with_its_hash() {
        let mut archive = Archive::new(&std::env::temp_dir()).unwrap();
        let columns = json!([{ "name": "id" }]);
        archive
            .rows("public.a", &columns, "{\"id\":1}\n", 1)
            .unwrap();
        archive
            .rows("public.a", &columns, "{\"id\":2}\n", 1)
            .unwrap();
        archive.rows("public.b", &columns, "{}\n", 1).unwrap();
        archive.file("project-files", "o/../p/é.txt", 3).unwrap();
        archive.write(b"ab").unwrap();
        archive.write(b"c").unwrap();
        archive.missing("project-files", "gone", 7, "not_found");
        let mut head = Map::new();
        head.insert("format".to_owned(), json!("kijko-export/1"));
        let finished = archive.finish(head).unwrap();

        let mut zip = ZipArchive::new(finished.file).unwrap();
        let mut read = |path: &str| {
            let mut bytes = Vec::new();
            zip.by_name(path).unwrap().read_to_end(&mut bytes).unwrap();
            bytes
        };
        let manifest: Value = serde_json::from_slice(&read("manifest.json")).unwrap();
        let entries: Vec<_> = ["tables", "files"]
            .iter()
            .flat_map(|part| manifest[*part].as_array().unwrap())
            .collect();
        assert_eq!(entries.len(), 4, "{manifest}");
        for entry in &entries[..3] {
            let bytes = read(entry["path"].as_str().unwrap());
            assert_eq!(entry["bytes"], json!(bytes.len()));
            assert_eq!(entry["sha256"], json!(hex_digest(&bytes)));
        }
        assert_eq!(entries[0]["rows"], json!(2));
        assert_eq!(entries[2]["path"], "files/project-files/o/_/p/é.txt");
        assert_eq!(entries[3]["missing"], "not_found");
    }
}
