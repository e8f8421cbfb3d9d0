//! How the charts of the documents look.
//!
//! ```
//! use chart::{Axis, Chart, Corner, Series};
//!
//! let chart = Chart {
//!     title: "What a hit costs".into(),
//!     x: Axis::logarithmic("sessions", 1e3, 1e6),
//!     y: Axis::linear("ns", (0.0, 1000.0), 200.0),
//!     legend: Corner::UpperLeft,
//!     series: vec![Series::line("ours", [(1e3, 200.0), (1e6, 700.0)])],
//! };
//! assert!(chart.svg().unwrap().starts_with("<svg"));
//! ```

use std::fmt;
use std::ops::Range;

use plotters::chart::SeriesLabelPosition;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::prelude::*;

/// Told apart by those who see fewer colours too (Okabe and Ito).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 86, 86),
    RGBColor(230, 159, 0),
];

/// One picture.
#[derive(Clone, Debug)]
pub struct Chart {
    /// What stands above it.
    pub title: String,
    /// From left to right.
    pub x: Axis,
    /// Upwards.
    pub y: Axis,
    /// Where the names of the series stand.
    pub legend: Corner,
    /// What is drawn, the first at the bottom.
    pub series: Vec<Series>,
}

/// A corner of the chart.
#[derive(Clone, Copy, Debug)]
pub enum Corner {
    /// Above, on the left.
    UpperLeft,
    /// Above, on the right.
    UpperRight,
    /// Below, on the right.
    LowerRight,
}

/// What stands at an axis, and how.
#[derive(Clone, Debug)]
pub struct Axis {
    name: String,
    range: (f64, f64),
    scale: Scale,
}

#[derive(Clone, Copy, Debug)]
enum Scale {
    /// A line at each multiple of this.
    Linear(f64),
    /// A line at each power of ten.
    Logarithmic,
}

impl Axis {
    /// With a line at each multiple of `step`.
    pub fn linear(name: impl Into<String>, range: (f64, f64), step: f64) -> Self {
        Self {
            name: name.into(),
            range,
            scale: Scale::Linear(step),
        }
    }

    /// With a line at each power of ten.
    pub fn logarithmic(name: impl Into<String>, from: f64, to: f64) -> Self {
        Self {
            name: name.into(),
            range: (from, to),
            scale: Scale::Logarithmic,
        }
    }

    /// Where a value stands.
    fn place(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear(_) => value,
            Scale::Logarithmic => value.max(1e-12).log10(),
        }
    }

    /// What is written at a place.
    fn label(&self, place: f64) -> String {
        let value = match self.scale {
            Scale::Linear(_) => place,
            Scale::Logarithmic => 10_f64.powf(place),
        };
        match value {
            0.0 => "0".to_owned(),
            small if small < 0.9 => format!("{small:.4}").trim_end_matches('0').to_owned(),
            v if v < 9e2 => tenths(v),
            v if v < 9e5 => tenths(v / 1e3) + "k",
            v if v < 9e8 => tenths(v / 1e6) + "M",
            v => tenths(v / 1e9) + "G",
        }
    }

    fn coordinate(&self) -> Places {
        let (from, to) = (self.place(self.range.0), self.place(self.range.1));
        let step = match self.scale {
            Scale::Linear(step) => step,
            Scale::Logarithmic => 1.0,
        };
        let first = (from / step - 1e-6).ceil() as i32;
        let last = (to / step + 1e-6).floor() as i32;
        let lines = (first..=last).map(|line| f64::from(line) * step);
        Places {
            range: from..to,
            lines: lines.collect(),
        }
    }
}

/// With one decimal, if that says something.
fn tenths(value: f64) -> String {
    format!("{value:.1}").trim_end_matches(".0").to_owned()
}

/// An axis as the crate that draws it sees it: from one number to another, with lines at some.
struct Places {
    range: Range<f64>,
    lines: Vec<f64>,
}

impl Ranged for Places {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, place: &f64, (from, to): (i32, i32)) -> i32 {
        let part = (place - self.range.start) / (self.range.end - self.range.start);
        from + (f64::from(to - from) * part).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.lines.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

/// What is drawn in one colour, or in the colour of the one before.
#[derive(Clone, Debug)]
pub struct Series {
    name: String,
    points: Vec<(f64, f64)>,
    is_line: bool,
}

impl Series {
    /// A line through points.
    pub fn line(name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        Self {
            name: name.into(),
            points: points.into_iter().collect(),
            is_line: true,
        }
    }

    /// Points, in the colour of the line before. What has no name is not in the legend.
    pub fn points(name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        Self {
            is_line: false,
            ..Self::line(name, points)
        }
    }
}

/// Why a chart cannot be drawn.
#[derive(Debug)]
pub struct Error(String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a chart cannot be drawn: {}", self.0)
    }
}

impl std::error::Error for Error {}

impl<E: std::error::Error + Send + Sync> From<DrawingAreaErrorKind<E>> for Error {
    fn from(error: DrawingAreaErrorKind<E>) -> Self {
        Self(error.to_string())
    }
}

impl Chart {
    /// The picture, as a file's text.
    ///
    /// # Errors
    ///
    /// If it cannot be drawn, as when a range is empty.
    pub fn svg(&self) -> Result<String, Error> {
        let mut svg = String::new();
        self.draw(SVGBackend::with_string(&mut svg, (760, 440)))?;
        svg.push('\n');
        Ok(svg)
    }

    fn draw(&self, svg: SVGBackend<'_>) -> Result<(), Error> {
        const GRID: RGBColor = RGBColor(225, 225, 225);
        const TEXT: RGBColor = RGBColor(40, 40, 40);
        let text = |size: i32| ("sans-serif", size).into_font().color(&TEXT);
        let area = svg.into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(&self.title, text(18))
            .margin(14)
            .margin_right(28)
            .x_label_area_size(46)
            .y_label_area_size(64)
            .build_cartesian_2d(self.x.coordinate(), self.y.coordinate())?;
        chart
            .configure_mesh()
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(TEXT)
            .label_style(text(13))
            .axis_desc_style(text(14))
            .x_desc(&self.x.name)
            .y_desc(&self.y.name)
            .x_label_formatter(&|place| self.x.label(*place))
            .y_label_formatter(&|place| self.y.label(*place))
            .draw()?;
        let mut colours = COLOURS.iter();
        let mut colour = &COLOURS[0];
        for series in &self.series {
            let points = series.points.iter();
            let points = points.map(|&(x, y)| (self.x.place(x), self.y.place(y)));
            // What is below the axis is not drawn.
            let bottom = self.y.place(self.y.range.0);
            let points: Vec<_> = points.filter(|&(_, y)| y >= bottom).collect();
            let drawn = if series.is_line {
                colour = colours.next().unwrap_or(colour);
                chart.draw_series(LineSeries::new(points, colour.stroke_width(2)))?
            } else {
                let points = points.into_iter();
                chart.draw_series(points.map(|point| Circle::new(point, 4, colour.filled())))?
            };
            if series.name.is_empty() {
                continue;
            }
            let (colour, is_line) = (*colour, series.is_line);
            drawn
                .label(&series.name)
                .legend(move |(x, y)| match is_line {
                    true => {
                        PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2)).into_dyn()
                    }
                    false => Circle::new((x + 10, y), 4, colour.filled()).into_dyn(),
                });
        }
        chart
            .configure_series_labels()
            .position(match self.legend {
                Corner::UpperLeft => SeriesLabelPosition::UpperLeft,
                Corner::UpperRight => SeriesLabelPosition::UpperRight,
                Corner::LowerRight => SeriesLabelPosition::LowerRight,
            })
            .background_style(WHITE.mix(0.85))
            .border_style(GRID)
            .label_font(text(13))
            .draw()?;
        area.present()?;
        Ok(())
    }
}
