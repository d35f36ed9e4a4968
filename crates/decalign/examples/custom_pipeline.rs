//! A custom model from three crates, trained by the same trainer as DecAlign: parts from `decalign-decouple`,
//! cross-modal attention from `decalign-fusion`, alignment by `decalign-mmd`.
//!
//! `cargo run --release -p decalign --example custom_pipeline`

use candle_core::{DType, Device, Tensor, Var};
use decalign::core::nn::{Init, Mode, Parameters, linear};
use decalign::data::Sequence;
use decalign::decouple::{Decoupled, Decoupler, cosine_squared};
use decalign::fusion::{
    Attention, CrossModalEncoder, Encoder, EncoderSettings, LayerSettings, MaskedSequence,
    mean_pool,
};
use decalign::metrics::Benchmark;
use decalign::mmd::{Estimator, Kernel, Mmd};
use decalign::objective::cross_entropy;
use decalign::train::{
    Criterion, EpochReport, Flow, LossTerms, Model, Observer, ResumePolicy, TrainSettings, Trainer,
};
use decalign::{Dataset, Result};

const NAMES: [&str; 3] = ["fou", "kar", "mor"];
const WIDTH: usize = 16;
const CLASSES: usize = 10;

/// Project, decouple, attend to one another, predict from all parts.
struct Pipeline {
    parameters: Parameters,
    projections: Vec<Tensor>,
    decoupler: Decoupler,
    encoder: CrossModalEncoder,
    head: Tensor,
}

/// The parts of a forward pass that the criterion takes.
struct Output {
    parts: Vec<Decoupled>,
    common: Vec<Tensor>,
    prediction: Tensor,
}

impl Pipeline {
    fn new(data: &Dataset, seed: u64) -> Result<Self> {
        let parameters = Parameters::new(seed, DType::F32, &Device::Cpu);
        let matrix = |name: &str, rows: usize, columns: usize| {
            let init = Init::KaimingUniform { fan_in: columns };
            parameters.scope(name).get("weight", (rows, columns), init)
        };
        let projection = |m: &decalign::data::Modality| {
            matrix(&format!("project_{}", m.name()), WIDTH, m.width())
        };
        let projections: decalign::core::Result<_> =
            data.modalities().iter().map(projection).collect();
        let layer = LayerSettings::new(WIDTH, 2)
            .activation_dropout(0.1)
            .residual_dropout(0.1);
        let settings = EncoderSettings::new(1, layer).embed_dropout(0.1);
        let encoder =
            |name: &&str| Encoder::new(&parameters.scope(format!("encode_{name}")), settings);
        let encoders: decalign::core::Result<_> = NAMES.iter().map(encoder).collect();
        Ok(Self {
            projections: projections?,
            decoupler: Decoupler::new(&parameters, &NAMES, WIDTH)?,
            encoder: CrossModalEncoder::new(encoders?)?,
            head: matrix("head", CLASSES, 2 * WIDTH * NAMES.len())?,
            parameters,
        })
    }
}

impl Model for Pipeline {
    type Output = Output;

    fn variables(&self) -> Vec<(String, Var)> {
        self.parameters.named()
    }

    fn forward(&self, sequences: &[Sequence], mode: Mode) -> Result<Output> {
        let project =
            |(sequence, weight): (&Sequence, &Tensor)| linear(&sequence.features, weight, None);
        let features: decalign::core::Result<Vec<Tensor>> = sequences
            .iter()
            .zip(&self.projections)
            .map(project)
            .collect();
        let parts = self.decoupler.forward_all(&features?)?;
        let stream = |part: &Decoupled| Some(MaskedSequence::new(part.unique.clone()));
        let streams: Vec<_> = parts.iter().map(stream).collect();
        let encoded = self.encoder.forward(&streams, Attention::Cross, mode)?;
        let pool = |x: &Tensor| mean_pool(x, None);
        let common: decalign::core::Result<Vec<Tensor>> =
            parts.iter().map(|part| pool(&part.common)).collect();
        let common = common?;
        let unique: decalign::core::Result<Vec<Tensor>> =
            encoded.iter().flatten().map(pool).collect();
        let all = Tensor::cat(&[unique?, common.clone()].concat(), 1)?;
        Ok(Output {
            prediction: linear(&all, &self.head, None)?,
            parts,
            common,
        })
    }

    fn prediction(&self, output: &Output) -> Result<Tensor> {
        Ok(output.prediction.clone())
    }
}

/// Cross-entropy, parts at right angles, common parts of one distribution.
struct Objective {
    mmd: Mmd,
}

impl Criterion<Pipeline> for Objective {
    fn losses(&self, output: &Output, labels: &Tensor) -> Result<LossTerms> {
        let task = self.task_loss(&output.prediction, labels)?;
        let angle = |part: &Decoupled| cosine_squared(&part.unique, &part.common);
        let angles: decalign::core::Result<Vec<Tensor>> = output.parts.iter().map(angle).collect();
        let decoupling = Tensor::stack(&angles?, 0)?.mean(0)?;
        let mmd = self.mmd.mean_over_pairs(&output.common)?;
        let total = ((&task + (&decoupling * 0.5)?)? + (&mmd * 0.1)?)?;
        let components = vec![
            ("task".to_owned(), task),
            ("decoupling".to_owned(), decoupling),
            ("mmd".to_owned(), mmd),
        ];
        Ok(LossTerms::new(components, total))
    }

    fn task_loss(&self, prediction: &Tensor, labels: &Tensor) -> Result<Tensor> {
        cross_entropy(prediction, labels, None)
    }
}

/// A callback: prints every epoch, and ends the run when it is good enough.
struct Watcher;

impl Observer for Watcher {
    fn epoch(&mut self, report: &EpochReport) -> Result<Flow> {
        let accuracy = report.valid.get("Acc").unwrap_or(0.0);
        println!(
            "epoch {}: {:?}, accuracy {accuracy:.3}",
            report.epoch, report.losses
        );
        Ok(if accuracy > 0.97 {
            Flow::Finish
        } else {
            Flow::Continue
        })
    }
}

pub(crate) fn main() -> Result<()> {
    let data = Dataset::mfeat()?.select(&NAMES)?;
    let train = data.part(None, decalign::data::Part::Train)?;
    let scale = decalign::data::Standardizer::fit(&data, &train, (0.0, 100.0), |_| true)?;
    let data = scale.apply(&data)?;
    let mut settings = TrainSettings::default();
    settings.epochs = 4;
    settings.learning_rate = 3e-3;
    let trainer = Trainer::new(
        settings,
        &data,
        None,
        Benchmark::Classification,
        &Device::Cpu,
    )?;
    let model = Pipeline::new(&data, 1)?;
    let objective = Objective {
        mmd: Mmd::new(Kernel::gaussian_length_scale(1.0)?, Estimator::Biased),
    };
    // `ResumePolicy::at(folder)` would let an interrupted run continue.
    let outcome = trainer.run(&model, &objective, &ResumePolicy::none(), &mut Watcher)?;
    println!("test: {:?}", outcome.test.metrics);
    assert!(outcome.test.metrics.get("Acc") > Some(0.8));
    Ok(())
}
