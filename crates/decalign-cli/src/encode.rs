//! `decalign encode`.

use std::path::Path;
use std::time::Instant;

use candle_core::Tensor;
use decalign::Dataset;
use decalign::text::{BertConfig, TextEncoder, TextPooling, Tokenizer};
use decalign_data::Modality;
use serde_json::{Value, json};

use crate::args::{Encode, Pool};
use crate::output::{CliResult, Failure, print_json, progress_bar};
use crate::source;

pub(crate) fn run(arguments: Encode) -> CliResult {
    source::threads(arguments.threads)?;
    source::check_output(&arguments.out, &[&arguments.data])?;
    let data = source::dataset(&arguments.data)?;
    let texts = match &arguments.texts {
        Some(path) => read_texts(path, &data)?,
        None => match data.texts() {
            Some(texts) => texts.to_vec(),
            None => {
                let message = format!(
                    "{}: has no transcripts; give them by --texts",
                    data.origin()
                );
                return Err(Failure::bad_input(message));
            }
        },
    };
    let start = Instant::now();
    let (features, lengths) = match arguments.pool {
        Pool::Ids => token_rows(&arguments, &texts)?,
        Pool::Mean => encoded(&arguments, &texts, TextPooling::Mean)?,
        Pool::Cls => encoded(&arguments, &texts, TextPooling::Cls)?,
        Pool::Tokens => encoded(&arguments, &texts, TextPooling::Tokens)?,
    };
    let seconds = start.elapsed().as_secs_f64();
    let (name, shape) = (&arguments.name, features.dims().to_vec());
    let modality = Modality::new(name, &features, lengths)?;
    let data = data.with_modality(modality)?.with_texts(texts)?;
    data.save(&arguments.out)?;
    if arguments.json {
        return print_json(&json!({"texts": data.len(), "shape": shape, "seconds": seconds}));
    }
    eprintln!(
        "{} texts in {seconds:.1} s; {name} {shape:?} in {}",
        data.len(),
        arguments.out.display()
    );
    Ok(())
}

type Features = (Tensor, Option<Vec<usize>>);

/// The features of the texts, by the encoder.
fn encoded(arguments: &Encode, texts: &[String], pooling: TextPooling) -> CliResult<Features> {
    let encoder = TextEncoder::open(&arguments.encoder, arguments.max_tokens, pooling)
        .map_err(decalign::Error::from)?
        .normalized(arguments.normalize);
    let template = "{bar:30} {pos}/{len} texts {elapsed}/{duration}";
    let bar = progress_bar(template, texts.len() as u64);
    let encoded = encoder.encode(texts, |done| bar.set_position(done as u64));
    bar.finish_and_clear();
    let encoded = encoded.map_err(decalign::Error::from)?;
    let lengths = (pooling == TextPooling::Tokens).then_some(encoded.lengths);
    Ok((encoded.features, lengths))
}

/// Token ids, attention mask and segments, the input of `use_bert`.
fn token_rows(arguments: &Encode, texts: &[String]) -> CliResult<Features> {
    let rows = || -> decalign::text::Result<_> {
        let config = BertConfig::open(&arguments.encoder)?;
        let most = config.max_position_embeddings;
        let longest = arguments.max_tokens.unwrap_or(most).min(most);
        Tokenizer::open(&arguments.encoder, longest)?.rows(texts, config.pad_token_id)
    };
    Ok((rows().map_err(decalign::Error::from)?, None))
}

/// Transcripts from JSON lines: by id where both have ids, else in the order of the samples.
fn read_texts(path: &Path, data: &Dataset) -> CliResult<Vec<String>> {
    let bad = |message: String| Failure::bad_input(format!("{}: {message}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
    let mut found: Vec<(Option<String>, String)> = Vec::new();
    for (i, line) in text
        .lines()
        .enumerate()
        .filter(|(_, l)| !l.trim().is_empty())
    {
        let value: Value =
            serde_json::from_str(line).map_err(|error| bad(format!("line {}: {error}", i + 1)))?;
        let Some(text) = value["text"].as_str() else {
            let message = format!("line {}: expected an object with \"text\"", i + 1);
            return Err(bad(message));
        };
        let id = value["id"].as_str().map(str::to_owned);
        found.push((id, text.to_owned()));
    }
    if let (Some(ids), true) = (data.ids(), found.iter().all(|(id, _)| id.is_some())) {
        let by_id: std::collections::HashMap<_, _> = found
            .into_iter()
            .filter_map(|(id, text)| Some((id?, text)))
            .collect();
        let find = |id: &String| match by_id.get(id) {
            Some(text) => Ok(text.clone()),
            None => Err(bad(format!("no text of sample {id}"))),
        };
        return ids.iter().map(find).collect();
    }
    if found.len() != data.len() {
        let message = format!("{} texts for {} samples", found.len(), data.len());
        return Err(bad(message));
    }
    Ok(found.into_iter().map(|(_, text)| text).collect())
}
