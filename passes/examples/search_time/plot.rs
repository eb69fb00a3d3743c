//! The figure of the guide to the equivalence engine.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;

/// Depth and seconds, for each model.
type Lines = [(&'static str, Vec<(usize, f64)>)];

/// Draws seconds over layers.
pub fn draw(file: &Path, lines: &Lines) -> Result<(), Box<dyn Error>> {
    let points = || lines.iter().flat_map(|(_, points)| points);
    let deepest = points().map(|p| p.0).max().unwrap_or(1);
    let longest = points().map(|p| p.1).fold(0.0, f64::max);
    let area = SVGBackend::new(file, (720, 420)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(16)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(0..deepest, 0.0..longest * 1.1)?;
    chart
        .configure_mesh()
        .x_desc("layers")
        .y_desc("seconds to saturate and extract")
        .light_line_style(TRANSPARENT)
        .draw()?;
    for ((name, points), color) in lines.iter().zip([BLUE, RED]) {
        chart
            .draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
        chart.draw_series(points.iter().map(|p| Circle::new(*p, 4, color.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .border_style(BLACK.mix(0.3))
        .background_style(WHITE)
        .draw()?;
    area.present()?;
    Ok(())
}
