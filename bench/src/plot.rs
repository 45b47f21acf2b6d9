//! Time against size and count, as an SVG: two panels, both axes logarithmic.

use std::{fmt::Write as _, time::Duration};

/// One point: how much, and how long with Kinfold and with rsync.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    pub(crate) amount: f64,
    pub(crate) ours: Duration,
    pub(crate) theirs: Option<Duration>,
}

/// One panel.
#[derive(Clone, Debug)]
pub(crate) struct Panel {
    pub(crate) title: &'static str,
    pub(crate) points: Vec<Point>,
}

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 40.0;
const ROOM: (f64, f64) = (330.0, 200.0);

/// The whole picture.
pub(crate) fn svg(panels: &[Panel]) -> String {
    let width = WIDTH * panels.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"{width}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n"
    );
    for (number, panel) in panels.iter().enumerate() {
        let at = WIDTH * number as f64;
        let _ = writeln!(out, "<g transform=\"translate({at} 0)\">");
        draw(&mut out, panel);
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

fn draw(out: &mut String, panel: &Panel) {
    let amounts = panel.points.iter().map(|point| point.amount);
    let times = panel.points.iter().flat_map(|point| {
        [Some(point.ours), point.theirs].into_iter().flatten().map(|time| time.as_secs_f64())
    });
    let (Some(across), Some(up)) = (Scale::of(amounts), Scale::of(times)) else { return };
    let _ = writeln!(
        out,
        "<text x=\"{LEFT}\" y=\"20\" font-size=\"13\">{}</text>\n\
         <rect x=\"{LEFT}\" y=\"{TOP}\" width=\"{}\" height=\"{}\" fill=\"none\" stroke=\"#888\"/>",
        panel.title, ROOM.0, ROOM.1
    );
    for tick in across.ticks() {
        let x = LEFT + across.at(tick) * ROOM.0;
        let bottom = TOP + ROOM.1;
        let _ = writeln!(
            out,
            "<path d=\"M{x:.1} {TOP}V{bottom}\" stroke=\"#ddd\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 15.0,
            short(tick)
        );
    }
    for tick in up.ticks() {
        let y = TOP + (1.0 - up.at(tick)) * ROOM.1;
        let right = LEFT + ROOM.0;
        let _ = writeln!(
            out,
            "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{} s</text>",
            LEFT - 5.0,
            y + 4.0,
            short(tick)
        );
    }
    let mut line = |name: &str,
                    colour: &str,
                    dy: f64,
                    time: &dyn Fn(&Point) -> Option<Duration>| {
        let mut path = String::new();
        for point in &panel.points {
            let Some(time) = time(point) else { continue };
            let x = LEFT + across.at(point.amount) * ROOM.0;
            let y = TOP + (1.0 - up.at(time.as_secs_f64())) * ROOM.1;
            let _ = write!(path, "{}{x:.1} {y:.1}", if path.is_empty() { "M" } else { "L" });
            let _ =
                writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
        }
        let _ = writeln!(
            out,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <text x=\"{}\" y=\"{dy}\" fill=\"{colour}\">{name}</text>",
            LEFT + 10.0
        );
    };
    line("Kinfold", "#0a6", TOP + 16.0, &|point| Some(point.ours));
    line("rsync", "#c50", TOP + 30.0, &|point| point.theirs);
}

/// A logarithmic axis from one power of ten to another.
struct Scale {
    low: i32,
    high: i32,
}

impl Scale {
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let logs: Vec<f64> = values.filter(|value| *value > 0.0).map(f64::log10).collect();
        let low = logs.iter().copied().reduce(f64::min)?.floor();
        let high = logs.iter().copied().reduce(f64::max)?.ceil();
        #[allow(clippy::cast_possible_truncation, reason = "logarithms are small")]
        let (low, high) = (low as i32, high as i32);
        Some(Self { low, high: high.max(low + 1) })
    }

    /// Where a value lies, from 0 to 1.
    fn at(&self, value: f64) -> f64 {
        (value.log10() - f64::from(self.low)) / f64::from(self.high - self.low)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        (self.low..=self.high).map(|power| 10f64.powi(power))
    }
}

fn short(value: f64) -> String {
    if value >= 1e6 {
        format!("{:.0} M", value / 1e6)
    } else if value >= 1e3 {
        format!("{:.0} k", value / 1e3)
    } else if value >= 1.0 {
        format!("{value:.0}")
    } else {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_is_in_its_panel() {
        let point = |amount: f64, ours: u64| Point {
            amount,
            ours: Duration::from_millis(ours),
            theirs: Some(Duration::from_millis(ours * 2)),
        };
        let panel = Panel { title: "one", points: vec![point(20.0, 40), point(3000.0, 9000)] };
        let text = svg(&[panel.clone(), panel]);
        assert_eq!(text.matches("<circle").count(), 8);
        for at in text.split("cx=\"").skip(1) {
            let x: f64 = at.split('"').next().and_then(|x| x.parse().ok()).expect("a number");
            assert!((LEFT..=LEFT + ROOM.0).contains(&x), "{x}");
        }
        assert!(!text.contains("NaN") && !text.contains("inf "), "{text}");
    }

    #[test]
    fn one_point_alone_has_an_axis() {
        let scale = Scale::of([100.0].into_iter()).expect("a value");
        assert_eq!(scale.ticks().collect::<Vec<_>>(), [100.0, 1000.0]);
        assert!(Scale::of(std::iter::empty()).is_none());
    }
}
