//! The live screen: both units side by side, cables and mail below, the story at the bottom. Drawn from what the watches know;
//! reads keys only to quit.

use super::face::Face;
use crate::clock::Micros;
use crate::pair::{Pair, UNITS};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph, Wrap};
use ratatui::{DefaultTerminal, Frame};
use std::collections::VecDeque;
use std::time::Duration;
use twinpost_api::Status;
use twinpost_types::EffectiveMode;

/// Time between two drawings.
const DRAW_EVERY: Duration = Duration::from_millis(200);
/// Lines of the story kept.
const STORY_MAX: usize = 200;
/// Height of the unit panes, lines.
const UNIT_LINES: u16 = 13;

/// The screen. Dropping it gives the terminal back.
pub struct Screen {
    terminal: DefaultTerminal,
    story: VecDeque<String>,
    began: Micros,
    drawn: Micros,
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// There is none, or it does not obey.
    pub fn open() -> std::io::Result<Self> {
        let terminal = ratatui::try_init()?;
        Ok(Self { terminal, story: VecDeque::new(), began: Micros::now(), drawn: Micros::default() })
    }

    /// The story so far, to be printed after the screen is gone.
    #[must_use]
    pub fn into_story(mut self) -> Vec<String> {
        std::mem::take(&mut self.story).into()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

impl Face for Screen {
    fn say(&mut self, line: &str) {
        let at = Micros::now().since(self.began).as_secs_f64();
        for line in line.lines() {
            if self.story.len() >= STORY_MAX {
                self.story.pop_front();
            }
            self.story.push_back(format!("{at:7.1}s  {line}"));
        }
        self.drawn = Micros::default();
    }

    fn look(&mut self, pair: &Pair) -> bool {
        if Micros::now().since(self.drawn) >= DRAW_EVERY {
            self.drawn = Micros::now();
            let story = &self.story;
            // A terminal that went away ends the demonstration by its keys below, or by the hang-up signal.
            let _ = self.terminal.draw(|frame| draw(frame, pair, story));
        }
        !quits()
    }
}

fn quits() -> bool {
    while let Ok(true) = event::poll(Duration::ZERO) {
        if let Ok(Event::Key(key)) = event::read() {
            let control_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
            if control_c || key.code == KeyCode::Char('q') {
                return true;
            }
        }
    }
    false
}

fn draw(frame: &mut Frame<'_>, pair: &Pair, story: &VecDeque<String>) {
    let [units, mail, log] =
        Layout::vertical([Constraint::Length(UNIT_LINES), Constraint::Length(4), Constraint::Min(3)])
            .areas(frame.area());
    let columns: [Rect; 2] = Layout::horizontal([Constraint::Fill(1); 2]).areas(units);
    for (unit, area) in columns.into_iter().enumerate() {
        draw_unit(frame, pair, unit, area);
    }
    draw_mail(frame, pair, mail);
    let height = usize::from(log.height.saturating_sub(2));
    let last = story.iter().skip(story.len().saturating_sub(height)).map(|line| Line::raw(line.as_str()));
    let text: Vec<Line<'_>> = last.collect();
    frame.render_widget(Paragraph::new(text).block(Block::bordered().title(" story ")), log);
}

fn draw_unit(frame: &mut Frame<'_>, pair: &Pair, unit: usize, area: Rect) {
    let status = pair.watch(unit).status(Micros::default());
    let lines = match &status {
        _ if !pair.is_powered(unit) => vec![Line::from("no power".red().bold())],
        None => vec![Line::from("boots…".yellow())],
        Some(status) => unit_lines(status),
    };
    let block = Block::bordered().title(format!(" unit {} ", UNITS[unit]));
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }).block(block), area);
}

fn unit_lines(status: &Status) -> Vec<Line<'static>> {
    let colour = match status.effective {
        EffectiveMode::Primary => Color::Green,
        EffectiveMode::Secondary => Color::Cyan,
        _ => Color::Yellow,
    };
    let mode = Span::styled(status.effective.to_string(), Style::new().fg(colour).bold());
    let mut lines = vec![
        Line::from(vec![mode, Span::raw(format!("  epoch {}", status.epoch.0))]),
        Line::raw(status.why.clone()),
    ];
    for (number, link) in status.links.iter().enumerate() {
        let state = if link.up { "up".green() } else { "down".red() };
        let rest = format!(
            "  carrier {}  lost {}{}",
            if link.carrier { "yes" } else { "no" },
            link.lost,
            if link.replication { "  replication" } else { "" }
        );
        lines.push(Line::from(vec![Span::raw(format!("heartbeat {} ", number + 1)), state, Span::raw(rest)]));
    }
    for (name, volume) in ["queue", "data"].iter().zip(&status.volumes) {
        let sync = match volume.out_of_sync_kib {
            0 => String::new(),
            kib => format!("  {kib} KiB to sync"),
        };
        let role = if volume.promoted { "promoted" } else { "standby" };
        lines.push(Line::raw(format!(
            "{name:<6}{role}  {:?}/{:?}  {:?}{sync}",
            volume.local, volume.peer, volume.replication
        )));
    }
    for vip in &status.vips {
        let held = if vip.held { "held".green() } else { "not held".gray() };
        lines.push(Line::from(vec![Span::raw(format!("{} ", vip.address)), held]));
    }
    lines.push(Line::raw(format!("queued {}", status.mail.queued)));
    lines.extend(status.alarms.iter().map(|alarm| Line::from(alarm.clone().red())));
    lines
}

fn draw_mail(frame: &mut Frame<'_>, pair: &Pair, area: Rect) {
    let mail = pair.ledger.summary();
    let owner = pair.vip_owner().map_or("nobody", |(unit, _)| UNITS[unit]);
    let outage = pair.outages.longest(Micros::now()).as_millis();
    let text = vec![
        Line::raw(format!(
            "acknowledged {}   delivered {}   on the way {}   duplicated {}   in flight {}",
            mail.acknowledged, mail.delivered, mail.lost, mail.duplicated, mail.in_flight
        )),
        Line::raw(format!("virtual IP answered by {owner}   longest time without a greeting {outage} ms")),
    ];
    frame.render_widget(Paragraph::new(text).block(Block::bordered().title(" mail ")), area);
}
