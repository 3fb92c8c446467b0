// Package link opens connections to brokers over mutual TLS, with grpc-go's own means.
package link

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// Credentials reads the PEM files of a client: the CA of the broker's certificate, its own certificate, and its key.
func Credentials(ca, cert, key string) (credentials.TransportCredentials, error) {
	certificate, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	authority, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		return nil, fmt.Errorf("no certificate in %s", ca)
	}
	return credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{certificate},
		RootCAs:      roots,
		MinVersion:   tls.VersionTLS12,
	}), nil
}

// Open makes a connection to one broker, HOST:PORT.
func Open(address string, secured credentials.TransportCredentials, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	return grpc.NewClient(address, append(more, grpc.WithTransportCredentials(secured))...)
}
