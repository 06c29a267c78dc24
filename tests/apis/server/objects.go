package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	admission "k8s.io/api/admissionregistration/v1"
	definitions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
)

// decoder knows Kubernetes' own types, definitions of others among them, and takes no field that they do not have.
var decoder = serializer.NewCodecFactory(ownTypes(), serializer.EnableStrict).UniversalDeserializer()

func ownTypes() *runtime.Scheme {
	types := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, definitions.AddToScheme} {
		if err := add(types); err != nil {
			panic(err)
		}
	}
	return types
}

// readDocuments gives each document of a YAML stream that is more than comments.
func readDocuments(from io.Reader, each func([]byte) error) error {
	documents := yaml.NewYAMLReader(bufio.NewReader(from))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if isEmpty(document) {
			continue
		}
		if err := each(document); err != nil {
			return err
		}
	}
}

func isEmpty(document []byte) bool {
	for _, line := range bytes.Split(document, []byte("\n")) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' && !bytes.Equal(line, []byte("---")) {
			return false
		}
	}
	return true
}

// readStrictly tells of each document what it is, or what is wrong with it, in a line.
func readStrictly(from io.Reader, to io.Writer) error {
	return readDocuments(from, func(document []byte) error {
		_, kind, err := decoder.Decode(document, nil, nil)
		if err != nil {
			_, err = fmt.Fprintf(to, "%v\n", err)
			return err
		}
		_, err = fmt.Fprintf(to, "%s %s\n", kind.GroupVersion(), kind.Kind)
		return err
	})
}

// readPolicies reads what the validating policies are made of.
func readPolicies(files []string) ([]runtime.Object, error) {
	var policies []runtime.Object
	for _, name := range files {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		err = readDocuments(file, func(document []byte) error {
			object, kind, err := decoder.Decode(document, nil, nil)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			switch object := object.(type) {
			case *admission.ValidatingAdmissionPolicy:
				setDefaults(object)
			case *admission.ValidatingAdmissionPolicyBinding:
			default:
				return fmt.Errorf("%s: %s is no policy", name, kind)
			}
			policies = append(policies, object)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return policies, nil
}

// setDefaults says what a server that keeps policies says where they say nothing.
func setDefaults(policy *admission.ValidatingAdmissionPolicy) {
	constraints := policy.Spec.MatchConstraints
	if constraints == nil {
		return
	}
	if constraints.MatchPolicy == nil {
		equivalent := admission.Equivalent
		constraints.MatchPolicy = &equivalent
	}
	if constraints.NamespaceSelector == nil {
		constraints.NamespaceSelector = &meta.LabelSelector{}
	}
	if constraints.ObjectSelector == nil {
		constraints.ObjectSelector = &meta.LabelSelector{}
	}
	for i := range constraints.ResourceRules {
		if rule := &constraints.ResourceRules[i].Rule; rule.Scope == nil {
			everywhere := admission.AllScopes
			rule.Scope = &everywhere
		}
	}
}
