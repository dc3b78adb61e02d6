//! Plots of the last hour, as SVG without style or script of its own.

use std::fmt::Write as _;

const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 120.0;

/// One figure over time.
pub(crate) struct Plot<'a> {
    /// What a reader of the screen says, such as `Commits a second`.
    pub(crate) title: &'a str,
    pub(crate) values: &'a [f64],
    /// Writes a value for people.
    pub(crate) format: fn(f64) -> String,
}

impl Plot<'_> {
    /// The plot as an element `svg`. Its lines take the colours of the classes `line` and `area`.
    pub(crate) fn svg(&self) -> String {
        let most = self.values.iter().copied().fold(0.0, f64::max);
        let now = self.values.last().copied().unwrap_or(0.0);
        let format = self.format;
        let described = match self.values {
            [] => "no figures yet".to_owned(),
            _ => format!("now {}, at most {}", format(now), format(most)),
        };
        let points = self.points(most);
        let title = self.title;
        format!(
            "<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" \
             aria-label=\"{title} over the last hour: {described}\">\
             <line class=\"base\" x1=\"0\" x2=\"{WIDTH}\" y1=\"{HEIGHT}\" y2=\"{HEIGHT}\"/>\
             <polygon class=\"area\" points=\"{points}\"/>\
             <polyline class=\"line\" points=\"{points}\"/></svg>"
        )
    }

    /// The corners of the area below the line. The newest value is at the right.
    fn points(&self, most: f64) -> String {
        let count = self.values.len();
        let mut points = String::new();
        if count < 2 || most <= 0.0 {
            return points;
        }
        let step = WIDTH / (count - 1) as f64;
        // Writing to a string cannot fail.
        let _ = write!(points, "0,{HEIGHT}");
        for (at, value) in self.values.iter().enumerate() {
            let (x, y) = (at as f64 * step, HEIGHT - value / most * (HEIGHT - 6.0));
            let _ = write!(points, " {x:.1},{y:.1}");
        }
        let _ = write!(points, " {WIDTH},{HEIGHT}");
        points
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(values: &[f64]) -> String {
        let plot = Plot {
            title: "Commits a second",
            values,
            format: |value| format!("{value:.0}"),
        };
        plot.svg()
    }

    #[test]
    fn the_largest_value_reaches_the_top_and_the_newest_the_right() {
        let svg = plot(&[0.0, 5.0, 10.0]);
        assert!(
            svg.contains("points=\"0,120 0.0,120.0 300.0,63.0 600.0,6.0 600,120\""),
            "{svg}"
        );
        assert!(svg.contains("now 10, at most 10"), "{svg}");
    }

    #[test]
    fn nothing_happened() {
        assert!(plot(&[]).contains("no figures yet"));
        assert!(plot(&[0.0, 0.0]).contains("points=\"\""));
    }
}
