// A real http and SOCKS 5 proxy for the tests: proxies http|socks5 ADDRESS [USER PASSWORD].
//
// It listens on that address, and prints its port. Every host is there too: whatever name is asked for leads to the
// address, at the port that is asked for, or at the one that a line "PORT=OTHER" on standard input names.
package main

import (
	"bufio"
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"

	"github.com/armon/go-socks5"
	"github.com/elazarl/goproxy"
	"github.com/elazarl/goproxy/ext/auth"
)

var (
	here  string
	ports = map[string]string{}
	lock  sync.Mutex
)

func dial(network, address string) (net.Conn, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	lock.Lock()
	if other, found := ports[port]; found {
		port = other
	}
	lock.Unlock()
	return net.Dial("tcp4", net.JoinHostPort(here, port))
}

type resolver struct{}

func (resolver) Resolve(ctx context.Context, name string) (context.Context, net.IP, error) {
	return ctx, net.ParseIP(here), nil
}

func serveHttp(listener net.Listener, user, password string) error {
	proxy := goproxy.NewProxyHttpServer()
	proxy.ConnectDial = dial
	proxy.Tr = &http.Transport{Dial: dial}
	if user != "" {
		auth.ProxyBasic(proxy, "tests", func(u, p string) bool { return u == user && p == password })
	}
	return http.Serve(listener, proxy)
}

func serveSocks(listener net.Listener, user, password string) error {
	config := &socks5.Config{
		Resolver: resolver{},
		Dial: func(_ context.Context, network, address string) (net.Conn, error) {
			return dial(network, address)
		},
		Logger: log.Default(),
	}
	if user != "" {
		config.Credentials = socks5.StaticCredentials{user: password}
	}
	server, err := socks5.New(config)
	if err != nil {
		return err
	}
	return server.Serve(listener)
}

func main() {
	var user, password string
	here = os.Args[2]
	if len(os.Args) > 4 {
		user, password = os.Args[3], os.Args[4]
	}
	listener, err := net.Listen("tcp4", net.JoinHostPort(here, "0"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	go func() {
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() {
			from, to, _ := strings.Cut(lines.Text(), "=")
			lock.Lock()
			ports[from] = to
			lock.Unlock()
			fmt.Println("set")
		}
		os.Exit(0) // the test is over
	}()
	serve := serveHttp
	if os.Args[1] == "socks5" {
		serve = serveSocks
	}
	log.Fatal(serve(listener, user, password))
}
