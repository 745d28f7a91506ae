//! `backprop schema`.

use crate::{args::SchemaOptions, failure::Failure, output};
use backprop::config;

pub(crate) fn run(options: &SchemaOptions) -> Result<(), Failure> {
    let text = if options.markdown {
        config::reference()
    } else {
        serde_json::to_string_pretty(&config::json_schema()).map_err(|e| Failure::Arguments(e.to_string()))?
    };
    output::line(text.trim_end());
    Ok(())
}
