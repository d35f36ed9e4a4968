//! Which measure sees which dependence? `cargo run --release -p decalign-decouple --example choose_measure`.
//!
//! Prints every measure that keeps parts apart for pairs of parts that are independent, equal, linearly dependent,
//! dependent without correlation, or shifted.

use decalign_decouple::candle_core::Tensor;
use decalign_decouple::{
    BandwidthRule, CosineMargin, CosineSign, CosineSquared, CrossCorrelation, Hsic, HsicEstimator,
    Measure, Orthogonality, Result, Stream,
};

fn main() -> Result<()> {
    let noise = |number| Stream::new(5, number).normal_tensor((300, 4));
    let x = noise(0)?;
    let cases: [(&str, Tensor); 5] = [
        ("independent", noise(1)?),
        ("equal", x.clone()),
        ("half of it plus noise", ((&x * 0.5)? + noise(2)?)?),
        ("its squares", x.sqr()?),
        ("independent, shifted", (noise(3)? + 5.0)?),
    ];
    let measures: [Box<dyn Measure>; 5] = [
        Box::new(CosineSquared),
        Box::new(CosineMargin::new(0.2, CosineSign::Both)?),
        Box::new(Orthogonality),
        Box::new(CrossCorrelation),
        Box::new(Hsic::new(HsicEstimator::Unbiased, BandwidthRule::Median)?),
    ];
    print!("{:<22}", "second part");
    measures.iter().for_each(|m| print!("{:>19}", m.name()));
    println!();
    for (name, y) in &cases {
        print!("{name:<22}");
        for measure in &measures {
            print!("{:>19.4}", measure.between(&x, y)?.to_scalar::<f64>()?);
        }
        println!();
    }
    println!(
        "\nCorrelations hardly see the squares, HSIC does; cosines also depend on the means of the parts."
    );
    Ok(())
}
