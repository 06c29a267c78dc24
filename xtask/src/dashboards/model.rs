//! What a dashboard is here, and the JSON that Grafana makes of it.

use serde_json::{Value, json};

/// How wide Grafana's grid is.
const COLUMNS: u64 = 24;

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Prometheus,
    Loki,
}

/// One page. Its file is named by its uid.
pub(super) struct Dashboard {
    pub uid: &'static str,
    pub title: &'static str,
    pub description: &'static str,
    pub variables: &'static [Variable],
    pub rows: &'static [Row],
}

/// What a reader chooses at the top.
pub(super) enum Variable {
    /// A data source of this kind.
    Source(Source),
    /// Values of a label, by a query to Prometheus; several, or all.
    Label { name: &'static str, title: &'static str, query: &'static str },
    /// A text, with the one that it has at first.
    Text { name: &'static str, title: &'static str, at_first: &'static str },
}

/// Panels under one heading.
pub(super) struct Row {
    pub title: &'static str,
    pub panels: &'static [Panel],
}

/// One picture.
pub(super) struct Panel {
    pub title: &'static str,
    /// What it says, and what it does not.
    pub description: &'static str,
    pub kind: Kind,
    /// As Grafana names units.
    pub unit: &'static str,
    pub source: Source,
    /// Each with its legend.
    pub queries: &'static [(&'static str, &'static str)],
}

impl Panel {
    /// Asks Prometheus.
    pub(super) const fn prometheus(
        title: &'static str,
        kind: Kind,
        unit: &'static str,
        queries: &'static [(&'static str, &'static str)],
        description: &'static str,
    ) -> Self {
        Self { title, description, kind, unit, source: Source::Prometheus, queries }
    }

    /// Asks Loki.
    pub(super) const fn loki(
        title: &'static str,
        kind: Kind,
        unit: &'static str,
        queries: &'static [(&'static str, &'static str)],
        description: &'static str,
    ) -> Self {
        Self { source: Source::Loki, ..Self::prometheus(title, kind, unit, queries, description) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One number, and the colour that it has from 1 on.
    Stat(&'static str),
    /// Lines over time.
    Lines,
    /// Areas over each other.
    Stack,
    /// What is now, or was in the time that is shown: a row for each.
    Table,
    /// Lines of a log.
    Logs,
}

impl Kind {
    fn size(self) -> (u64, u64) {
        match self {
            Self::Stat(_) => (4, 4),
            Self::Lines | Self::Stack => (8, 8),
            Self::Table => (12, 9),
            Self::Logs => (COLUMNS, 14),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Stat(_) => "stat",
            Self::Lines | Self::Stack => "timeseries",
            Self::Table => "table",
            Self::Logs => "logs",
        }
    }
}

impl Source {
    /// The variable that names it, and its type in Grafana.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Prometheus => ("prometheus", "prometheus"),
            Self::Loki => ("loki", "loki"),
        }
    }

    fn reference(self) -> Value {
        let (variable, kind) = self.names();
        json!({"type": kind, "uid": format!("${{{variable}}}")})
    }
}

impl Dashboard {
    /// The file.
    pub(super) fn text(&self) -> String {
        format!("{:#}\n", self.json())
    }

    fn json(&self) -> Value {
        let (mut panels, mut top) = (Vec::new(), 0);
        for row in self.rows {
            panels.push(json!({
                "id": panels.len() + 1, "type": "row", "title": row.title, "collapsed": false, "panels": [],
                "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": 1},
            }));
            top += 1;
            let (mut left, mut lowest) = (0, top);
            for panel in row.panels {
                let (width, height) = panel.kind.size();
                if left + width > COLUMNS {
                    (left, top) = (0, lowest);
                }
                panels.push(panel.json(panels.len() + 1, (left, top)));
                left += width;
                lowest = lowest.max(top + height);
            }
            top = lowest;
        }
        json!({
            "uid": self.uid, "title": self.title, "description": self.description, "tags": ["kube-tcpstates"],
            "schemaVersion": 39, "version": 1, "editable": true, "graphTooltip": 1, "timezone": "browser",
            "time": {"from": "now-1h", "to": "now"}, "refresh": "30s",
            "templating": {"list": self.variables.iter().map(Variable::json).collect::<Vec<_>>()},
            "panels": panels,
        })
    }
}

impl Variable {
    fn json(&self) -> Value {
        match self {
            Self::Source(source) => {
                let (name, kind) = source.names();
                json!({"type": "datasource", "name": name, "label": kind, "query": kind})
            }
            Self::Label { name, title, query } => json!({
                "type": "query", "name": name, "label": title, "datasource": Source::Prometheus.reference(),
                "definition": query, "query": {"query": query, "refId": name}, "refresh": 2, "sort": 1,
                "multi": true, "includeAll": true, "allValue": ".*",
                "current": {"text": ["All"], "value": ["$__all"]},
            }),
            Self::Text { name, title, at_first } => json!({
                "type": "textbox", "name": name, "label": title, "query": at_first,
                "current": {"text": at_first, "value": at_first},
            }),
        }
    }
}

impl Panel {
    fn json(&self, id: usize, (left, top): (u64, u64)) -> Value {
        let (width, height) = self.kind.size();
        let letters = ('A'..='Z').map(String::from);
        let targets: Vec<_> =
            self.queries.iter().zip(letters).map(|(query, id)| self.target(*query, &id)).collect();
        json!({
            "id": id, "type": self.kind.name(), "title": self.title, "description": self.description,
            "gridPos": {"x": left, "y": top, "w": width, "h": height},
            "datasource": self.source.reference(),
            "fieldConfig": {"defaults": self.defaults(), "overrides": []},
            "options": self.options(), "targets": targets,
            "transformations": self.transformations(),
        })
    }

    fn target(&self, (expression, legend): (&str, &str), id: &str) -> Value {
        let instant = matches!(self.kind, Kind::Stat(_) | Kind::Table);
        let mut target = json!({
            "refId": id, "datasource": self.source.reference(), "expr": expression, "legendFormat": legend,
        });
        match (self.source, self.kind) {
            (Source::Loki, _) => target["queryType"] = json!(if instant { "instant" } else { "range" }),
            (Source::Prometheus, _) => {
                target["instant"] = json!(instant);
                target["range"] = json!(!instant);
            }
        }
        if self.kind == Kind::Table && self.source == Source::Prometheus {
            target["format"] = json!("table");
        }
        target
    }

    fn defaults(&self) -> Value {
        let mut defaults = json!({"unit": self.unit});
        match self.kind {
            Kind::Stat(colour) => {
                let steps = json!([{"color": "text", "value": null}, {"color": colour, "value": 1}]);
                defaults["thresholds"] = json!({"mode": "absolute", "steps": steps});
                defaults["noValue"] = json!("-");
            }
            Kind::Lines => defaults["min"] = json!(0),
            Kind::Stack => {
                defaults["min"] = json!(0);
                defaults["custom"] = json!({"fillOpacity": 40, "stacking": {"mode": "normal", "group": "A"}});
            }
            Kind::Table | Kind::Logs => {}
        }
        defaults
    }

    fn options(&self) -> Value {
        match self.kind {
            Kind::Stat(_) => json!({
                "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": false},
                "colorMode": "value", "graphMode": "none", "textMode": "auto",
            }),
            Kind::Lines | Kind::Stack => json!({
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": true},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }),
            Kind::Table => json!({"showHeader": true, "cellHeight": "sm"}),
            Kind::Logs => json!({
                "showTime": true, "wrapLogMessage": true, "enableLogDetails": true, "sortOrder": "Descending",
            }),
        }
    }

    /// A table has a row for each series, without what is the same in all.
    fn transformations(&self) -> Value {
        match (self.kind, self.source) {
            (Kind::Table, Source::Prometheus) => {
                let hidden = json!({"Time": true, "__name__": true, "job": true, "instance": true});
                json!([{"id": "organize", "options": {"excludeByName": hidden}}])
            }
            (Kind::Table, Source::Loki) => {
                json!([{"id": "labelsToFields", "options": {}}, {"id": "merge", "options": {}}])
            }
            _ => json!([]),
        }
    }
}
