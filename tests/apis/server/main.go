// An API server for custom resources alone: etcd below it, and nothing of Kubernetes beside it.
//
// It listens on loopback, by plain HTTP, and does whatever it is asked, for whomever one impersonates. Admission policies,
// which another server would hold as objects, are read from files.
package main

import (
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"

	"go.opentelemetry.io/otel/trace/noop"
	"k8s.io/apiextensions-apiserver/pkg/apiserver"
	"k8s.io/apiextensions-apiserver/pkg/cmd/server/options"
	"k8s.io/apiextensions-apiserver/pkg/generated/openapi"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
	genericoptions "k8s.io/apiserver/pkg/server/options"
	"k8s.io/apiserver/pkg/util/feature"
	openapiutil "k8s.io/apiserver/pkg/util/openapi"
	"k8s.io/apiserver/pkg/util/webhook"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

func main() {
	etcd := flag.String("etcd", "", "address of an etcd")
	policies := flag.String("policies", "", "files with admission policies and their bindings, with commas between")
	types := flag.Bool("types", false, "instead of serving, read objects from stdin as Kubernetes' own types, strictly")
	flag.Parse()
	var err error
	if *types {
		err = readStrictly(os.Stdin, os.Stdout)
	} else {
		err = serve(*etcd, strings.FieldsFunc(*policies, func(r rune) bool { return r == ',' }))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serve tells on stdout where it listens, and does not end.
func serve(etcd string, policies []string) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	config, err := configure(etcd, listener.Addr().String(), policies)
	if err != nil {
		return err
	}
	completed := config.Complete()
	// The list of groups, which otherwise an aggregator in front of this server makes.
	completed.GenericConfig.EnableDiscovery = true
	server, err := completed.New(genericapiserver.NewEmptyDelegate())
	if err != nil {
		return err
	}
	prepared := server.GenericAPIServer.PrepareRun()
	// What it starts with asks the server itself.
	go http.Serve(listener, server.GenericAPIServer.Handler)
	fmt.Printf("http://%s\n", listener.Addr())
	return prepared.RunWithContext(genericapiserver.SetupSignalContext())
}

func configure(etcd, address string, policies []string) (*apiserver.Config, error) {
	chosen := options.NewCustomResourceDefinitionsServerOptions(os.Stderr, os.Stderr)
	recommended := chosen.RecommendedOptions
	recommended.Etcd.StorageConfig.Transport.ServerList = []string{etcd}
	recommended.SecureServing, recommended.Authentication, recommended.Authorization = nil, nil, nil
	// Those that ask another API server.
	recommended.CoreAPI, recommended.Admission = nil, nil
	recommended.Features.EnablePriorityAndFairness = false
	chosen.ServerRunOptions.ExternalHost = address
	if err := chosen.ServerRunOptions.ComponentGlobalsRegistry.Set(); err != nil {
		return nil, err
	}
	if err := chosen.Complete(); err != nil {
		return nil, err
	}

	config := genericapiserver.NewRecommendedConfig(apiserver.Codecs)
	config.LoopbackClientConfig = &rest.Config{Host: "http://" + address, QPS: -1}
	if err := chosen.ServerRunOptions.ApplyTo(&config.Config); err != nil {
		return nil, err
	}
	if err := recommended.ApplyTo(config); err != nil {
		return nil, err
	}
	config.Authentication.Authenticator = authenticator.RequestFunc(administrator)
	source := apiserver.DefaultAPIResourceConfigSource()
	if err := chosen.APIEnablement.ApplyTo(&config.Config, source, apiserver.Scheme); err != nil {
		return nil, err
	}
	if err := admit(config, policies); err != nil {
		return nil, err
	}
	definitions := openapiutil.GetOpenAPIDefinitionsWithoutDisabledFeatures(openapi.GetOpenAPIDefinitions)
	namer := openapinamer.NewDefinitionNamer(apiserver.Scheme, scheme.Scheme)
	config.OpenAPIConfig = genericapiserver.DefaultOpenAPIConfig(definitions, namer)
	config.OpenAPIV3Config = genericapiserver.DefaultOpenAPIV3Config(definitions, namer)

	none := noop.NewTracerProvider()
	getter := options.NewCRDRESTOptionsGetter(*recommended.Etcd, config.ResourceTransformers, config.StorageObjectCountTracker)
	return &apiserver.Config{
		GenericConfig: config,
		ExtraConfig: apiserver.ExtraConfig{
			CRDRESTOptionsGetter: getter,
			ServiceResolver:      noServices{},
			AuthResolverWrapper:  webhook.NewDefaultAuthenticationInfoResolverWrapper(nil, nil, config.LoopbackClientConfig, none),
		},
	}, nil
}

// administrator is who everybody is, unless they impersonate somebody.
func administrator(*http.Request) (*authenticator.Response, bool, error) {
	groups := []string{user.SystemPrivilegedGroup, user.AllAuthenticated}
	return &authenticator.Response{User: &user.DefaultInfo{Name: "administrator", Groups: groups}}, true, nil
}

// noServices is there for webhooks that convert between versions; no definition has one.
type noServices struct{ webhook.ServiceResolver }

// admit has the validating policies judge what is written, with a client that finds them and nothing else.
func admit(config *genericapiserver.RecommendedConfig, files []string) error {
	policies, err := readPolicies(files)
	if err != nil {
		return err
	}
	client := fake.NewSimpleClientset(policies...)
	config.SharedInformerFactory = informers.NewSharedInformerFactory(client, 0)
	chosen := genericoptions.NewAdmissionOptions()
	for _, name := range chosen.RecommendedPluginOrder {
		if name != validating.PluginName {
			chosen.DisablePlugins = append(chosen.DisablePlugins, name)
		}
	}
	dynamic := dynamicfake.NewSimpleDynamicClient(scheme.Scheme)
	return chosen.ApplyTo(&config.Config, config.SharedInformerFactory, client, dynamic, feature.DefaultFeatureGate, config.EffectiveVersion)
}
