//! The chart is the base with values.

use std::fs;
use std::path::Path;

use kube_tcpstates_deploy_tests::{documents, identity, kustomized, root, said, sorted, templated, tool};
use serde_json::{Value, json};

fn rendered(settings: &[&str]) -> Vec<Value> {
    templated(settings).unwrap_or_else(|error| panic!("{settings:?}: {error:#}"))
}

fn find<'a>(objects: &'a [Value], wanted: &str) -> &'a Value {
    objects.iter().find(|object| identity(object) == wanted).unwrap_or_else(|| panic!("no {wanted}"))
}

fn agent(settings: &[&str]) -> Value {
    find(&rendered(settings), "DaemonSet kube-tcpstates kube-tcpstates-agent")["spec"]["template"]["spec"]
        .clone()
}

#[test]
fn without_values_it_renders_what_kustomize_builds_of_the_base() {
    let (chart, base) = (sorted(rendered(&[])), sorted(kustomized("base").unwrap()));
    let names = |objects: &[Value]| objects.iter().map(identity).collect::<Vec<_>>();
    assert_eq!(names(&chart), names(&base));
    for (ours, theirs) in chart.iter().zip(&base) {
        assert_eq!(ours, theirs, "{}", identity(ours));
    }
}

#[test]
fn its_definitions_are_those_of_the_programs() {
    let mut published = Vec::new();
    for file in fs::read_dir(root().join("crds/yaml")).unwrap() {
        published.extend(documents(&fs::read_to_string(file.unwrap().path()).unwrap()).unwrap());
    }
    let is_definition = |object: &Value| object["kind"] == "CustomResourceDefinition";
    let mut ours = rendered(&[]);
    ours.retain(is_definition);
    assert_eq!(sorted(ours.clone()), sorted(published));
    for definition in &ours {
        let keep = &definition["metadata"]["annotations"]["helm.sh/resource-policy"];
        assert_eq!(keep, "keep", "{} would go with the release, and every object", identity(definition));
    }
    assert!(!rendered(&["definitions.install=false"]).iter().any(is_definition));
}

#[test]
fn helm_finds_nothing_to_mend_and_packs_what_it_links_to() {
    let chart = root().join("charts/kube-tcpstates");
    let told = said(tool("helm").unwrap().args(["lint", "--strict", "--quiet"]).arg(&chart)).unwrap();
    assert_eq!(told.trim(), "", "{told}");
    let place = tempfile::tempdir().unwrap();
    said(tool("helm").unwrap().arg("package").arg(&chart).arg("--destination").arg(place.path())).unwrap();
    let archive = fs::read_dir(place.path()).unwrap().next().unwrap().unwrap().path();
    let packed = said(tool("helm").unwrap().args(["template", "any-name"]).arg(archive)).unwrap();
    assert_eq!(sorted(documents(&packed).unwrap()), sorted(rendered(&[])));
}

#[test]
fn its_version_is_the_programs() {
    let chart = fs::read_to_string(root().join("charts/kube-tcpstates/Chart.yaml")).unwrap();
    let chart = documents(&chart).unwrap().remove(0);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!((&chart["version"], &chart["appVersion"]), (&json!(version), &json!(format!("v{version}"))));
}

/// Every value that has an effect on the agents' pod, one after the other: what it is about changes, and nothing else.
#[test]
fn a_value_changes_what_it_is_for_and_nothing_else() {
    let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
    let by_digest = format!("image.digest={digest}");
    let args = "/containers/0/args";
    let cases: &[(&[&str], &str, Value)] = &[
        (&["image.repository=r.example/t", "image.tag=v9"], "/containers/0/image", json!("r.example/t:v9")),
        (
            &["image.repository=r.example/t", "image.tag=v9", &by_digest],
            "/containers/0/image",
            json!(format!("r.example/t@{digest}")),
        ),
        (&["image.pullPolicy=Always"], "/containers/0/imagePullPolicy", json!("Always")),
        (&["image.pullSecrets[0].name=mine"], "/imagePullSecrets", json!([{"name": "mine"}])),
        (&["agent.nodeSelector.pool=traced"], "/nodeSelector", json!({"pool": "traced"})),
        (&["agent.tolerations=null"], "/tolerations", Value::Null),
        (&["agent.priorityClassName=low"], "/priorityClassName", json!("low")),
        (&["agent.workloadMetrics=30s"], args, json!(["agent", "--workload-metrics=30s"])),
        (&["agent.output=ecs"], args, json!(["agent", "--output=ecs"])),
        (&["agent.identityWait=5s"], args, json!(["agent", "--identity-wait=5s"])),
        (
            &["agent.otlp.endpoint=http://collector:4318"],
            args,
            json!(["agent", "--otlp-endpoint=http://collector:4318"]),
        ),
        (
            &["agent.extraArgs[0]=--max-lines-per-second=1000"],
            args,
            json!(["agent", "--max-lines-per-second=1000"]),
        ),
        (
            &["agent.seLinuxOptions.type=spc_t"],
            "/containers/0/securityContext/seLinuxOptions",
            json!({"type": "spc_t"}),
        ),
        (
            &["agent.extraCapabilities[0]=SYS_RESOURCE"],
            "/containers/0/securityContext/capabilities/add",
            json!(["BPF", "PERFMON", "DAC_READ_SEARCH", "SYS_RESOURCE"]),
        ),
        (&["agent.resources.limits.memory=512Mi"], "/containers/0/resources/limits/memory", json!("512Mi")),
    ];
    for (settings, path, expected) in cases {
        let (mut plain, mut changed) = (agent(&[]), agent(settings));
        assert_eq!(changed.pointer(path).unwrap_or(&Value::Null), expected, "{settings:?}");
        for pod in [&mut plain, &mut changed] {
            let (parent, name) = path.rsplit_once('/').unwrap();
            pod.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name);
        }
        assert_eq!(changed, plain, "{settings:?}");
    }
}

#[test]
fn the_operator_gets_its_arguments_and_nodes_that_have_its_image() {
    let of = |settings: &[&str]| {
        let objects = rendered(settings);
        let deployment = find(&objects, "Deployment kube-tcpstates kube-tcpstates-operator");
        let pod = deployment["spec"]["template"]["spec"].clone();
        let terms =
            "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0";
        let of_image = pod.pointer(terms).unwrap()["matchExpressions"][1].clone();
        (pod["containers"][0].get("args").cloned(), of_image)
    };
    let of_image = |values: Value| json!({ "key": "kubernetes.io/arch", "operator": "In", "values": values });
    assert_eq!(of(&[]), (None, of_image(json!(["amd64"]))));
    assert_eq!(
        of(&["operator.extraArgs[0]=--lines-readers=8", "image.architectures={amd64,arm64}"]),
        (Some(json!(["--lines-readers=8"])), of_image(json!(["amd64", "arm64"])))
    );
}

#[test]
fn names_and_levels_come_by_the_environment() {
    let pod = agent(&[
        "clusterName=prod",
        "agent.logLevel=debug",
        "agent.extraEnv[0].name=A",
        "agent.extraEnv[0].value=b",
    ]);
    let env = pod["containers"][0]["env"].as_array().unwrap();
    let value = |name: &str| env.iter().find(|entry| entry["name"] == name).unwrap()["value"].clone();
    assert_eq!(
        (value("CLUSTER_NAME"), value("RUST_LOG"), value("A")),
        (json!("prod"), json!("debug,kube_client=off"), json!("b"))
    );
}

/// The chart's values for it, against the overlay that does the same.
#[test]
fn what_overlays_are_for_can_be_said_by_values() {
    let cases: &[(&str, &[&str])] = &[
        ("cgroup-v1", &["agent.hostProc=true"]),
        ("pinned", &["agent.pinned=true"]),
        ("kernel-5.10", &["agent.extraCapabilities[0]=SYS_RESOURCE"]),
        ("selinux", &["agent.seLinuxOptions.type=spc_t"]),
        (
            "localhost-seccomp",
            &[
                "agent.seccompProfile.type=Localhost",
                "agent.seccompProfile.localhostProfile=profiles/kube-tcpstates.json",
            ],
        ),
    ];
    for (overlay, settings) in cases {
        let built = kustomized(&format!("overlays/{overlay}")).unwrap();
        assert_eq!(sorted(rendered(settings)), sorted(built), "{overlay}");
    }
}

#[test]
fn with_a_surge_no_node_is_without_an_agent() {
    let strategy = |settings: &[&str]| {
        let objects = rendered(settings);
        let agents = find(&objects, "DaemonSet kube-tcpstates kube-tcpstates-agent");
        agents["spec"]["updateStrategy"]["rollingUpdate"].clone()
    };
    assert_eq!(strategy(&[]), json!({"maxUnavailable": "10%"}));
    assert_eq!(strategy(&["agent.maxSurge=1"]), json!({"maxSurge": 1, "maxUnavailable": 0}));
}

#[test]
fn every_overlay_is_built_by_a_kubectl_of_today() {
    let overlays = fs::read_dir(root().join("manifests/overlays")).unwrap();
    let mut built = 0;
    for overlay in overlays {
        let overlay = overlay.unwrap().file_name().into_string().unwrap();
        let objects = kustomized(&format!("overlays/{overlay}")).unwrap();
        find(&objects, "DaemonSet kube-tcpstates kube-tcpstates-agent");
        built += 1;
    }
    assert_eq!(built, 7);
}

#[test]
fn a_header_file_is_mounted_from_its_secret() {
    let pod = agent(&["agent.otlp.endpoint=http://c:4318", "agent.otlp.headersSecret=tokens"]);
    let container = &pod["containers"][0];
    let file = container["args"]
        .as_array()
        .unwrap()
        .iter()
        .find_map(|word| word.as_str()?.strip_prefix("--otlp-headers-file="));
    let file = Path::new(file.unwrap());
    let mount = container["volumeMounts"]
        .as_array()
        .unwrap()
        .iter()
        .find(|mount| mount["name"] == "otlp-headers")
        .unwrap();
    assert_eq!((&mount["mountPath"], &mount["readOnly"]), (&json!(file.parent().unwrap()), &json!(true)));
    let volume =
        pod["volumes"].as_array().unwrap().iter().find(|volume| volume["name"] == "otlp-headers").unwrap();
    assert_eq!(volume["secret"]["secretName"], "tokens");
}

#[test]
fn parts_can_be_left_out() {
    let count = |settings: &[&str], part: &str| {
        rendered(settings).iter().filter(|object| identity(object).contains(part)).count()
    };
    assert_eq!(count(&["operator.enabled=false"], "kube-tcpstates-operator"), 0);
    assert_eq!(count(&["operator.enabled=false"], "lines"), 0);
    assert_eq!(count(&["operator.linesApi=false"], "lines"), 0);
    assert!(count(&["operator.linesApi=false"], "kube-tcpstates-operator") > 0);
    assert_eq!(count(&["networkPolicy.enabled=false"], "NetworkPolicy"), 0);
    assert_eq!(count(&["tenantRoles.create=false"], "tcpstates-viewer"), 0);
    assert_eq!(count(&["namespace.create=false"], "Namespace "), 0);
}

#[test]
fn everything_moves_to_another_namespace() {
    let text = json!(rendered(&["namespace.name=elsewhere"])).to_string();
    assert!(!text.contains(r#""namespace":"kube-tcpstates""#), "something stayed behind");
    let (here, there) = (rendered(&[]), rendered(&["namespace.name=elsewhere"]));
    assert_eq!(here.len(), there.len());
    let home = text.replace(r#""namespace":"elsewhere""#, r#""namespace":"kube-tcpstates""#);
    let mut home: Vec<Value> = serde_json::from_str(&home).unwrap();
    let namespace = home.iter_mut().find(|object| object["kind"] == "Namespace").unwrap();
    namespace["metadata"]["name"] = json!("kube-tcpstates");
    assert_eq!(sorted(home), sorted(here));
}

#[test]
fn a_value_that_does_not_exist_or_cannot_be_is_refused() {
    for wrong in [
        "agents.output=json",
        "agent.output=xml",
        "agent.workloadMetrics=soon",
        "image.digest=latest",
        "image.pullPolicy=Sometimes",
        "operator.replicas=-1",
        "namespace.name=Two Words",
        "agent.extraCapabilities[0]=SYS_ADMIN",
    ] {
        let error = templated(&[wrong]).expect_err(wrong);
        assert!(error.to_string().contains("values don't meet the specifications"), "{wrong}: {error:#}");
    }
}

#[test]
fn every_value_has_a_place_in_the_schema_and_a_row_in_the_document() {
    fn keys(value: &Value, path: &str, found: &mut Vec<String>) {
        for (name, inner) in value.as_object().into_iter().flatten() {
            found.push(format!("{path}/properties/{name}"));
            keys(inner, &format!("{path}/properties/{name}"), found);
        }
    }
    let read = |name: &str| fs::read_to_string(root().join("charts/kube-tcpstates").join(name)).unwrap();
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    let values = documents(&read("values.yaml")).unwrap().remove(0);
    let mut found = Vec::new();
    keys(&values, "", &mut found);
    // What a Kubernetes object has within is not the chart's to list.
    found.retain(|path| !path.contains("resources/") && !path.contains("seccompProfile/"));
    for path in &found {
        assert!(schema.pointer(path).is_some(), "{path} is not in values.schema.json");
    }
    let document = fs::read_to_string(root().join("docs/helm.md")).unwrap();
    for path in found {
        let name = path.replace("/properties/", ".");
        let name = name.trim_start_matches('.');
        if schema.pointer(&format!("{path}/properties")).is_none() {
            assert!(document.contains(&format!("`{name}`")), "docs/helm.md does not tell of {name}");
        }
    }
}

#[test]
fn what_prometheus_needs_is_there_when_asked_for_as_deploy_has_it() {
    let deployed = |name: &str| {
        let text = fs::read_to_string(root().join("deploy/prometheus").join(name)).unwrap();
        documents(&text).unwrap().remove(0)
    };
    for (value, file, kind) in [
        ("podMonitor", "pod-monitor.yaml", "PodMonitor"),
        ("prometheusRule", "prometheus-rule.yaml", "PrometheusRule"),
    ] {
        let enabled = format!("{value}.enabled=true");
        let name = format!("{kind} kube-tcpstates kube-tcpstates");
        assert_eq!(find(&rendered(&[&enabled]), &name), &deployed(file));
        let labelled = rendered(&[&enabled, &format!("{value}.labels.release=prometheus")]);
        assert_eq!(find(&labelled, &name)["metadata"]["labels"]["release"], "prometheus");
    }
    let by_service = rendered(&["serviceMonitor.enabled=true", "serviceMonitor.interval=10s"]);
    let monitor = find(&by_service, "ServiceMonitor kube-tcpstates kube-tcpstates");
    let service = find(&by_service, "Service kube-tcpstates kube-tcpstates-metrics");
    assert_eq!(monitor["spec"]["endpoints"][0]["interval"], "10s");
    for (label, value) in monitor["spec"]["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(&service["metadata"]["labels"][label], value);
    }
    assert_eq!(
        monitor["spec"]["endpoints"][0]["relabelings"],
        deployed("pod-monitor.yaml")["spec"]["podMetricsEndpoints"][0]["relabelings"]
    );
}
