// Command cert-manager runs the controllers of cert-manager that issue Certificates from SelfSigned and CA Issuers.
//
// They are cert-manager's own, unchanged. Its released program (cmd/controller) is a Go module of its own with a replace
// directive, which no module proxy serves; and it has ACME, Vault, CyberArk and the DNS services of seven clouds beside
// these, which Jiemi's tests do not need and which take most of a build.
//
// It writes nothing but its log, listens nowhere, and elects no leader.
package main

import (
	"context"
	"embed"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/cert-manager/cert-manager/pkg/controller"
	"github.com/cert-manager/cert-manager/pkg/logs"

	// Each registers itself.
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/approver"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/ca"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/selfsigned"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/issuing"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/keymanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/readiness"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/requestmanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/revisionmanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/trigger"
	_ "github.com/cert-manager/cert-manager/pkg/controller/clusterissuers"
	_ "github.com/cert-manager/cert-manager/pkg/controller/issuers"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/ca"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/selfsigned"
)

// The definitions of cert-manager's kinds. tests/support/kubernetes/go_programs.py puts them here from the module.
//
//go:embed *.yaml
var definitions embed.FS

const workers = 5

func main() {
	kubeconfig := flag.String("kubeconfig", "", "of the API server")
	printed := flag.Bool("definitions", false, "print the definitions of the kinds, and end")
	flag.Parse()
	if *printed {
		exit(printDefinitions())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	logs.InitLogs()
	defer logs.FlushLogs()
	exit(run(ctx, *kubeconfig))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func printDefinitions() error {
	entries, err := definitions.ReadDir(".")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		content, err := definitions.ReadFile(entry.Name())
		if err != nil {
			return err
		}
		fmt.Printf("---\n%s\n", content)
	}
	return nil
}

// run runs the controllers until the context ends. The options are cert-manager's own defaults.
func run(ctx context.Context, kubeconfig string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	factory, err := controller.NewContextFactory(ctx, controller.ContextOptions{
		Kubeconfig:         kubeconfig,
		KubernetesAPIQPS:   20,
		KubernetesAPIBurst: 50,
		IssuerOptions:      controller.IssuerOptions{ClusterResourceNamespace: "cert-manager"},
		CertificateOptions: controller.CertificateOptions{
			CertificateRequestMinimumBackoffDuration: time.Hour,
			CertificateRequestMaximumBackoffDuration: 32 * time.Hour,
		},
	})
	if err != nil {
		return err
	}
	shared, err := factory.Build()
	if err != nil {
		return err
	}
	var running sync.WaitGroup
	for name, construct := range controller.Known() {
		made, err := construct(factory)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		running.Go(func() {
			if err := made.Run(workers, ctx); err != nil {
				cancel(fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	shared.SharedInformerFactory.Start(ctx.Done())
	shared.KubeSharedInformerFactory.Start(ctx.Done())
	running.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
