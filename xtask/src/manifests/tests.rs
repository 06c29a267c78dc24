//! What is installed is what the specification allows, read from the installer itself; kustomize makes the same of it.

mod openshift;
mod operator;

use std::process::Command;

use serde_json::{Value, json};

use super::*;
use crate::image;

const NAMESPACE: &str = "kube-tcpstates";
const AGENT: &str = "kube-tcpstates-agent";
const OPERATOR: &str = "kube-tcpstates-operator";
const OVERLAYS: [&str; 7] =
    ["classic-hook", "cgroup-v1", "kernel-5.10", "localhost-seccomp", "pinned", "selinux", "openshift"];

fn workspace() -> Workspace {
    Workspace::find().unwrap()
}

fn parse(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap()
}

fn installer() -> Vec<Value> {
    parse(&fs::read_to_string(workspace().root.join("manifests/tcptrace.yaml")).unwrap())
}

fn find(objects: &[Value], kind: &str, name: &str) -> Value {
    let is_it = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
    objects.iter().find(is_it).unwrap_or_else(|| panic!("no {kind} {name}")).clone()
}

fn pod(objects: &[Value]) -> Value {
    find(objects, "DaemonSet", AGENT)["spec"]["template"]["spec"].clone()
}

fn operator(objects: &[Value]) -> Value {
    find(objects, "Deployment", OPERATOR)["spec"]["template"]["spec"].clone()
}

/// The kustomize in kubectl; none on a machine without, or with one before 1.21, which knows no `patches`.
fn kustomized(directory: &str) -> Option<Vec<Value>> {
    let kubectl = |arguments: &[&str]| {
        let output = Command::new("kubectl").args(arguments).output().ok()?;
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).ok()
    };
    let minor = kubectl(&["version", "--client", "--output=json"]).and_then(|text| {
        let version: Value = serde_json::from_str(&text).unwrap();
        let digits = version["clientVersion"]["minor"].as_str()?.trim_end_matches('+');
        digits.parse::<u32>().ok()
    });
    if minor.is_none_or(|minor| minor < 21) {
        eprintln!("NOT COMPARED: no kubectl of 1.21 or later to build manifests/{directory} with");
        return None;
    }
    let path = workspace().root.join("manifests").join(directory);
    kubectl(&["kustomize", path.to_str().unwrap()]).map(|text| parse(&text))
}

/// What an overlay makes of the installer: objects of its own, and the patches in its kustomization, which are JSON Patch on
/// the `DaemonSet`.
fn patched(overlay: &str) -> Vec<Value> {
    let directory = workspace().root.join("manifests/overlays").join(overlay);
    let read = |name: &str| parse(&fs::read_to_string(directory.join(name)).unwrap());
    let kustomization = read("kustomization.yaml").remove(0);
    let mut resources =
        kustomization["resources"].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
    assert_eq!(resources.next(), Some("../../base"), "{overlay}");
    let mut objects = installer();
    objects.extend(resources.flat_map(read));
    for patch in kustomization["patches"].as_array().unwrap() {
        let is_it = |object: &&mut Value| {
            json!({ "kind": object["kind"], "name": object["metadata"]["name"] }) == patch["target"]
        };
        let target = objects.iter_mut().find(is_it);
        let target = target.unwrap_or_else(|| panic!("{overlay}: no {}", patch["target"]));
        for change in parse(patch["patch"].as_str().unwrap()).remove(0).as_array().unwrap() {
            apply(target, change);
        }
    }
    objects
}

/// One operation of a JSON Patch: `add` to the end of a list or to an object, `replace`, or `remove` from an object.
fn apply(object: &mut Value, change: &Value) {
    let (path, value) = (change["path"].as_str().unwrap(), change["value"].clone());
    match (change["op"].as_str().unwrap(), path.strip_suffix("/-")) {
        ("add", Some(list)) => {
            let list = object.pointer_mut(list).unwrap_or_else(|| panic!("no {list}"));
            list.as_array_mut().unwrap().push(value);
        }
        ("add", None) => {
            let (object_path, name) = path.rsplit_once('/').unwrap();
            let parent = object.pointer_mut(object_path).unwrap_or_else(|| panic!("no {object_path}"));
            let before = parent.as_object_mut().unwrap().insert(name.to_owned(), value);
            assert_eq!(before, None, "{path}");
        }
        ("replace", None) => {
            *object.pointer_mut(path).unwrap_or_else(|| panic!("no {path}")) = value;
        }
        ("remove", None) => {
            let (object_path, name) = path.rsplit_once('/').unwrap();
            let parent = object.pointer_mut(object_path).unwrap_or_else(|| panic!("no {object_path}"));
            assert!(parent.as_object_mut().unwrap().remove(name).is_some(), "no {path}");
        }
        (other, _) => panic!("{other} {path}: not known here"),
    }
}

/// By kind and name: kustomize has an order of its own.
fn sorted(mut objects: Vec<Value>) -> Vec<Value> {
    objects.sort_by_key(|object| (object["kind"].to_string(), object["metadata"]["name"].to_string()));
    objects
}

/// Verb, group/resource and, where it is for one object alone, its name, of every right in a role, in order.
fn rights(role: &Value) -> Vec<String> {
    let texts = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let mut rights = Vec::new();
    for rule in role["rules"].as_array().unwrap() {
        let mut keys: Vec<_> = rule.as_object().unwrap().keys().collect();
        keys.retain(|key| *key != "resourceNames");
        assert_eq!(keys, ["apiGroups", "resources", "verbs"], "a rule that is not about resources alone");
        let of = rule["resourceNames"][0].as_str().map_or_else(String::new, |name| format!(" {name}"));
        for (group, resource) in texts(&rule["apiGroups"]).iter().flat_map(|group| {
            texts(&rule["resources"]).into_iter().map(move |resource| (group.clone(), resource))
        }) {
            rights.extend(texts(&rule["verbs"]).iter().map(|verb| format!("{verb} {group}/{resource}{of}")));
        }
    }
    rights.sort();
    rights
}

#[test]
fn the_joined_files_are_current() {
    check(&workspace()).unwrap();
}

#[test]
fn kustomize_makes_the_same_of_the_base_and_the_overlays() {
    let overlays = OVERLAYS.map(|overlay| (format!("overlays/{overlay}"), patched(overlay)));
    for (directory, ours) in [("base".to_owned(), installer())].into_iter().chain(overlays) {
        let Some(built) = kustomized(&directory) else { return };
        assert_eq!(sorted(built), sorted(ours), "{directory}");
    }
}

#[test]
fn the_first_comment_says_what_the_file_is_and_there_is_no_trace_in_it() {
    let text = fs::read_to_string(workspace().root.join("manifests/tcptrace.yaml")).unwrap();
    assert!(text.starts_with("# The installer of kube-tcpstates: "), "{}", &text[..80]);
    let kinds: Vec<_> =
        installer().iter().map(|object| object["kind"].as_str().unwrap().to_owned()).collect();
    let expected = [
        "Namespace",
        "CustomResourceDefinition",
        "CustomResourceDefinition",
        "CustomResourceDefinition",
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
        "Role",
        "RoleBinding",
        "ClusterRole",
        "ClusterRole",
        "DaemonSet",
        "Deployment",
        "Service",
        "APIService",
        "ClusterRole",
        "ClusterRoleBinding",
        "RoleBinding",
        "NetworkPolicy",
    ];
    assert_eq!(kinds, expected);
}

#[test]
fn the_file_of_definitions_has_exactly_the_installers_definitions() {
    let file = parse(&fs::read_to_string(workspace().root.join("manifests/crds.yaml")).unwrap());
    let mut definitions = installer();
    definitions.retain(|object| object["kind"] == "CustomResourceDefinition");
    assert_eq!(file, definitions);
}

#[test]
fn the_agent_may_do_what_is_specified_and_nothing_else() {
    let expected = [
        "create tcpstates.dev/tcpstatenodes",
        "list /namespaces",
        "list /nodes",
        "list /pods",
        "list /services",
        "list discovery.k8s.io/endpointslices",
        "list tcpstates.dev/clustertcpstatetraces",
        "list tcpstates.dev/tcpstatetraces",
        "patch tcpstates.dev/tcpstatenodes",
        "patch tcpstates.dev/tcpstatenodes/status",
        "watch /namespaces",
        "watch /nodes",
        "watch /pods",
        "watch /services",
        "watch discovery.k8s.io/endpointslices",
        "watch tcpstates.dev/clustertcpstatetraces",
        "watch tcpstates.dev/tcpstatetraces",
    ];
    let objects = installer();
    assert_eq!(rights(&find(&objects, "ClusterRole", AGENT)), expected);

    assert_eq!(pod(&objects)["serviceAccountName"], AGENT);
}

#[test]
fn namespaced_traces_alone_aggregate_into_edit_and_view() {
    let objects = installer();
    for (role, verbs) in [
        ("editor", &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"][..]),
        ("viewer", &["get", "list", "watch"]),
    ] {
        let role = find(&objects, "ClusterRole", &format!("tcpstates-{role}"));
        let mut expected: Vec<_> =
            verbs.iter().map(|verb| format!("{verb} tcpstates.dev/tcpstatetraces")).collect();
        expected.push("get lines.tcpstates.dev/tcpstatetraces/lines".to_owned());
        expected.push("get lines.tcpstates.dev/tcpstatetraces/log".to_owned());
        expected.sort();
        assert_eq!(rights(&role), expected);
    }
    let mut aggregated = Vec::new();
    for object in &objects {
        for label in object["metadata"]["labels"].as_object().unwrap().keys() {
            if let Some(role) = label.strip_prefix("rbac.authorization.k8s.io/aggregate-to-") {
                aggregated.push(format!("{} to {role}", object["metadata"]["name"].as_str().unwrap()));
            }
        }
    }
    assert_eq!(aggregated, ["tcpstates-editor to edit", "tcpstates-viewer to view"]);
}

#[test]
fn the_agent_runs_with_exactly_the_security_context_specified() {
    let pod = pod(&installer());
    let expected = json!({
        "runAsUser": 0,
        "privileged": false,
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": { "drop": ["ALL"], "add": ["BPF", "PERFMON", "DAC_READ_SEARCH"] },
        "seccompProfile": { "type": "RuntimeDefault" },
    });
    assert_eq!(pod["containers"][0]["securityContext"], expected);
    assert_eq!(pod["containers"].as_array().unwrap().len(), 1);
    for absent in
        ["initContainers", "securityContext", "hostPID", "hostNetwork", "hostIPC", "shareProcessNamespace"]
    {
        assert!(pod.get(absent).is_none(), "{absent}");
    }
    let cgroup = json!({ "name": "cgroup", "mountPath": "/host/sys/fs/cgroup", "readOnly": true });
    assert_eq!(pod["containers"][0]["volumeMounts"], json!([cgroup]));
    let host = json!({ "name": "cgroup", "hostPath": { "path": "/sys/fs/cgroup", "type": "Directory" } });
    assert_eq!(pod["volumes"], json!([host]));
}

#[test]
fn every_linux_node_has_an_agent_that_nothing_throttles() {
    let objects = installer();
    let (daemon_set, pod) = (find(&objects, "DaemonSet", AGENT), pod(&objects));
    assert_eq!(daemon_set["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"], "10%");
    assert_eq!(pod["tolerations"], json!([{ "operator": "Exists" }]));
    let terms = pod.pointer("/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution");
    let kinds = json!([
        { "key": "kubernetes.io/os", "operator": "In", "values": ["linux"] },
        { "key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"] },
        { "key": "eks.amazonaws.com/compute-type", "operator": "NotIn", "values": ["fargate"] },
        { "key": "type", "operator": "NotIn", "values": ["virtual-kubelet"] },
    ]);
    assert_eq!(terms.unwrap()["nodeSelectorTerms"], json!([{ "matchExpressions": kinds }]));
    let resources = &pod["containers"][0]["resources"];
    assert!(resources["limits"].get("cpu").is_none() && resources["limits"].get("memory").is_some());
    for asked in ["cpu", "memory", "ephemeral-storage"] {
        assert!(resources["requests"].get(asked).is_some(), "{resources}");
    }
    // Draining takes up to 5 s.
    assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() > 5);
    let port = |probe: &str| pod["containers"][0][probe]["httpGet"].clone();
    assert_eq!(port("livenessProbe"), json!({ "path": "/livez", "port": "metrics" }));
    assert_eq!(port("readinessProbe"), json!({ "path": "/readyz", "port": "metrics" }));
    assert_eq!(pod["containers"][0]["ports"][0]["name"], "metrics");
}

#[test]
fn the_image_is_the_one_that_x_image_tags() {
    let objects = installer();
    for (pod, name) in [(pod(&objects), "agent"), (operator(&objects), "operator")] {
        let container = &pod["containers"][0];
        assert_eq!(container["image"], image::REFERENCE);
        assert_eq!(container["imagePullPolicy"], "Never");
        assert_eq!(container["name"], name);
    }
    // Nobody can register a name below it.
    assert!(image::REFERENCE.split('/').next().unwrap().ends_with(".invalid"), "{}", image::REFERENCE);
    let document = fs::read_to_string(workspace().root.join("docs/install.md")).unwrap();
    assert!(document.contains(image::REFERENCE), "docs/install.md names another image");
}

/// So that one command takes away everything but the definitions, and with them the traces.
#[test]
fn all_but_the_definitions_is_found_by_one_label_or_goes_with_the_namespace() {
    for object in installer() {
        let metadata = &object["metadata"];
        let is_labelled = metadata["labels"]["app.kubernetes.io/name"] == "kube-tcpstates";
        assert!(is_labelled, "{metadata}");
        let is_ours = metadata.get("namespace").is_none_or(|namespace| namespace == NAMESPACE);
        // Where the ConfigMap is that it is about.
        let is_reader = object["kind"] == "RoleBinding" && metadata["namespace"] == "kube-system";
        assert!(is_ours || is_reader, "{metadata}");
    }
    let enforced = &find(&installer(), "Namespace", NAMESPACE)["metadata"]["labels"];
    assert_eq!(enforced["pod-security.kubernetes.io/enforce"], "privileged");
}

#[test]
fn an_overlay_changes_what_it_is_for_and_nothing_else() {
    let of = |agent: &Value| {
        let container = &agent["containers"][0];
        let mounts = container["volumeMounts"].as_array().unwrap();
        let paths: Vec<_> =
            mounts.iter().map(|mount| mount["mountPath"].as_str().unwrap().to_owned()).collect();
        // But for what is pinned.
        let may_be_written = |mount: &Value| mount["name"] == "bpf";
        assert!(mounts.iter().all(|mount| mount["readOnly"] == true || may_be_written(mount)), "{mounts:?}");
        (
            container["args"].clone(),
            container["securityContext"]["capabilities"]["add"].clone(),
            container["securityContext"]["seccompProfile"].clone(),
            container["securityContext"]["seLinuxOptions"].clone(),
            paths,
        )
    };
    for overlay in OVERLAYS {
        let built = patched(overlay);
        let (mut args, mut add, mut seccomp, mut selinux, mut paths) = of(&pod(&installer()));
        let push = |list: &mut Value, word: &str| list.as_array_mut().unwrap().push(word.into());
        match overlay {
            "classic-hook" => {
                push(&mut args, "--hook=tracepoint");
                paths.push("/sys/kernel/tracing".to_owned());
            }
            "cgroup-v1" => {
                push(&mut args, "--proc-root=/host/proc");
                push(&mut add, "SYS_PTRACE");
                paths.push("/host/proc".to_owned());
            }
            "pinned" => {
                push(&mut args, "--pin=/sys/fs/bpf/kube-tcpstates");
                push(&mut args, "--daemon-set=kube-tcpstates/kube-tcpstates-agent");
                paths.push("/sys/fs/bpf".to_owned());
            }
            "kernel-5.10" => push(&mut add, "SYS_RESOURCE"),
            "selinux" | "openshift" => selinux = json!({ "type": "spc_t" }),
            _ => seccomp = json!({ "type": "Localhost", "localhostProfile": "profiles/kube-tcpstates.json" }),
        }
        assert_eq!(of(&pod(&built)), (args, add, seccomp, selinux, paths), "{overlay}");
        let others = |mut objects: Vec<Value>| {
            let apart = ["DaemonSet", "SecurityContextConstraints"];
            objects.retain(|object| apart.iter().all(|kind| object["kind"] != *kind));
            // Whose user OpenShift chooses.
            objects.retain(|object| overlay != "openshift" || object["kind"] != "Deployment");
            // The right to ask for its own DaemonSet.
            let is_of_pinned = |object: &Value| {
                ["Role", "RoleBinding"].iter().any(|kind| object["kind"] == *kind)
                    && object["metadata"]["name"] == AGENT
            };
            objects.retain(|object| overlay != "pinned" || !is_of_pinned(object));
            sorted(objects)
        };
        assert_eq!(others(built), others(installer()), "{overlay}");
    }
}

#[test]
fn metrics_are_reached_from_namespaces_that_are_labelled_for_it_alone() {
    let objects = installer();
    let policy = find(&objects, "NetworkPolicy", AGENT);
    let agents = find(&objects, "DaemonSet", AGENT)["spec"]["selector"].clone();
    assert_eq!(policy["spec"]["podSelector"], agents);
    assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress"]));
    let rule = json!({
        "from": [{ "namespaceSelector": { "matchLabels": { "tcpstates.dev/scrapes": "true" } } }],
        "ports": [{ "port": "metrics", "protocol": "TCP" }],
    });
    assert_eq!(policy["spec"]["ingress"], json!([rule]));
}

#[test]
fn the_share_of_the_api_server_is_the_agents_own() {
    let text = fs::read_to_string(workspace().root.join("manifests/policies/flow-schema.yaml")).unwrap();
    let objects = parse(&text);
    let schema = find(&objects, "FlowSchema", AGENT);
    let level = find(&objects, "PriorityLevelConfiguration", "kube-tcpstates");
    assert_eq!(schema["spec"]["priorityLevelConfiguration"]["name"], level["metadata"]["name"]);
    let account = json!({ "namespace": NAMESPACE, "name": AGENT });
    let subjects = &schema["spec"]["rules"][0]["subjects"];
    assert_eq!(*subjects, json!([{ "kind": "ServiceAccount", "serviceAccount": account }]));
    // Kubernetes' own schema for service accounts has 9000, and the lowest number is asked first.
    assert!(schema["spec"]["matchingPrecedence"].as_u64().unwrap() < 9000);
}

#[test]
fn every_reference_to_a_field_says_its_version() {
    // The server adds it: whoever applies first by client and then by server has a conflict otherwise.
    let agent = find(&installer(), "DaemonSet", AGENT).to_string();
    assert_eq!(
        agent.matches("\"fieldPath\"").count(),
        agent.matches("{\"apiVersion\":\"v1\",\"fieldPath\"").count()
    );
    assert!(agent.contains("\"fieldPath\""));
}

#[test]
fn a_sidecar_has_two_capabilities_and_nothing_of_the_node() {
    for (file, list) in [("native", "initContainers"), ("plain", "containers")] {
        let path = workspace().root.join("manifests/sidecar").join(file).with_extension("yaml");
        let objects = parse(&fs::read_to_string(path).unwrap());
        let pod = find(&objects, "Deployment", "checkout")["spec"]["template"]["spec"].clone();
        let containers = pod[list].as_array().unwrap();
        let sidecar = containers.iter().find(|container| container["name"] == "tcpstates").unwrap();
        assert_eq!(sidecar["image"], image::REFERENCE);
        let context = json!({
            "runAsUser": 0,
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"], "add": ["BPF", "PERFMON"] },
            "seccompProfile": { "type": "RuntimeDefault" },
        });
        assert_eq!(sidecar["securityContext"], context, "{file}");
        assert_eq!(pod["automountServiceAccountToken"], false, "{file}");
        assert!(!pod.to_string().contains("hostPath") && !pod.to_string().contains("\"host"), "{file}");
        assert_eq!(sidecar["restartPolicy"] == "Always", file == "native");
    }
}

#[test]
fn the_policy_is_about_the_account_and_the_resources_of_the_agent() {
    let text = fs::read_to_string(workspace().root.join("manifests/policies/own-report.yaml")).unwrap();
    let objects = parse(&text);
    let policy = find(&objects, "ValidatingAdmissionPolicy", "kube-tcpstates-own-report");
    let condition = policy["spec"]["matchConditions"][0]["expression"].as_str().unwrap();
    assert!(condition.ends_with(&format!("'system:serviceaccount:{NAMESPACE}:{AGENT}'")), "{condition}");
    // A token of a Node object has a node's name too.
    let node = policy["spec"]["variables"][0]["expression"].as_str().unwrap();
    for needed in ["authentication.kubernetes.io/pod-uid' in ", "authentication.kubernetes.io/node-name' in "]
    {
        assert!(node.contains(needed), "{node}");
    }
    let rule = &policy["spec"]["matchConstraints"]["resourceRules"][0];
    assert_eq!(rule["resources"], json!(["tcpstatenodes", "tcpstatenodes/status"]));
    let binding = find(&objects, "ValidatingAdmissionPolicyBinding", "kube-tcpstates-own-report");
    assert_eq!(binding["spec"]["policyName"], policy["metadata"]["name"]);
}

#[test]
fn a_directory_stands_for_its_own_files_and_comments_are_no_entries() {
    let text =
        "# A comment.\nkind: Kustomization\nresources:\n  - a.yaml\n  - ../b\npatches:\n  - path: c.yaml\n";
    assert_eq!(listed(text).collect::<Vec<_>>(), ["a.yaml", "../b"]);
    let files = parts(&workspace().root.join("manifests/base")).unwrap();
    assert!(files.iter().any(|file| file.ends_with("yaml/tcpstatenodes.yaml")), "{files:?}");
    assert!(files.iter().all(|file| file.is_file()), "{files:?}");
}
