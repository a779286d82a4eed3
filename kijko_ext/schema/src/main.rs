//! `kijko-schema LIBRARY CONTROL_FILE VERSION` prints the install script of the extension in LIBRARY.

use std::env;
use std::fs;
use std::io::{self, Write};

use eyre::{Result, WrapErr, bail, ensure, eyre};
use object::{Object, ObjectSection};
use pgrx_sql_entity_graph::section::{ELF_SECTION_NAME, decode_entities};
use pgrx_sql_entity_graph::{ControlFile, PgrxSql, SqlGraphEntity};

/// What `AS 'MODULE_PATHNAME'` stands for is in the control file; this names the library in messages only.
const EXTENSION: &str = "kijko";

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().collect();
    let [_program, library, control_file, version] = arguments.as_slice() else {
        bail!("usage: kijko-schema LIBRARY CONTROL_FILE VERSION");
    };
    let bytes = fs::read(library).wrap_err_with(|| format!("{library} cannot be read"))?;
    let sql = install_script(&bytes, control_file, version)?;
    io::stdout().write_all(sql.as_bytes())?;
    Ok(())
}

fn install_script(library: &[u8], control_file: &str, version: &str) -> Result<String> {
    let control = ControlFile::from_path_with_cargo_version(control_file, version)
        .map_err(|error| eyre!("{control_file}: {error}"))?;
    let mut entities = vec![SqlGraphEntity::ExtensionRoot(control)];
    let section = section(library)?;
    entities.extend(decode_entities(section)?);
    // A linker that drops the section leaves a script without a function.
    ensure!(
        entities.len() > 1,
        "the library has no SQL objects in its section {ELF_SECTION_NAME}"
    );
    PgrxSql::build(entities.into_iter(), EXTENSION.to_owned(), false)?.to_sql()
}

fn section(library: &[u8]) -> Result<&[u8]> {
    let file = object::File::parse(library).wrap_err("this is no library")?;
    let section = file
        .section_by_name(ELF_SECTION_NAME)
        .ok_or_else(|| eyre!("the library has no section {ELF_SECTION_NAME}"))?;
    Ok(section.data()?)
}
