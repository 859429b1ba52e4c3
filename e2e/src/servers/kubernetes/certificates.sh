# The authorities, certificates and keys of a control plane, in this folder: `sh -c <this> certificates <node>...`
# P-256, and keys as PKCS#8, which every TLS library reads.
set -eu

authority() { # name
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj "/CN=$1" \
    -addext keyUsage=critical,keyCertSign,cRLSign,digitalSignature -keyout "$1.key" -out "$1.crt"
}

signed() { # name, authority, subject, extended key usage, [alternative names]
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "$3" -keyout "$1.key" -out "$1.csr"
  {
    echo basicConstraints=CA:FALSE
    echo keyUsage=critical,digitalSignature
    echo "extendedKeyUsage=$4"
    [ -z "${5:-}" ] || echo "subjectAltName=$5"
  } >"$1.ext"
  openssl x509 -req -in "$1.csr" -CA "$2.crt" -CAkey "$2.key" -CAcreateserial -days 365 -extfile "$1.ext" -out "$1.crt"
  rm "$1.csr" "$1.ext"
}

authority ca
authority front-proxy-ca
service=kubernetes.default.svc
signed apiserver ca /CN=kube-apiserver serverAuth \
  "DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:$service,DNS:$service.cluster.local,IP:127.0.0.1,IP:127.96.0.1"
signed admin ca /O=system:masters/CN=admin clientAuth
signed controller-manager ca /CN=system:kube-controller-manager clientAuth
signed scheduler ca /CN=system:kube-scheduler clientAuth
signed apiserver-to-kubelet ca /O=system:masters/CN=kube-apiserver clientAuth
signed front-proxy front-proxy-ca /CN=front-proxy clientAuth
for node; do
  signed "$node" ca "/O=system:nodes/CN=system:node:$node" clientAuth
  signed "$node-server" ca "/O=system:nodes/CN=system:node:$node" serverAuth "DNS:localhost,DNS:$node,IP:127.0.0.1"
done
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out service-accounts.key
openssl pkey -in service-accounts.key -pubout -out service-accounts.pub
