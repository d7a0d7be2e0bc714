# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# nginx and HAProxy in front of an origin, as the parts of bench.sh compare with them: one worker (one thread) each, no
# access log, connections to the origin are kept.
# Needs: hosts.sh.

readonly ORIGIN=9000 NGINX=9001 HAPROXY=9002

haproxy_config() { # NAME BIND SERVER: $work/NAME.cfg
	cat >"$work/$1.cfg" <<-END
		global
			nbthread 1
			maxconn 9000
		defaults
			mode http
			timeout connect 5s
			timeout client 600s
			timeout server 600s
			timeout http-keep-alive 600s
			http-reuse always
		frontend in
			bind $2
			default_backend next
		backend next
			server o $3
	END
	chmod 644 "$work/$1.cfg" # not all that run it are root
}

proxies_start() { # HOST
	cat >"$work/$1-nginx.conf" <<-END
		worker_processes 1; daemon off; pid $work/$1-nginx.pid; error_log $work/$1-nginx.err crit;
		events { worker_connections 19000; }
		http {
			access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; tcp_nodelay on;
			client_body_temp_path $work/b; proxy_temp_path $work/p; fastcgi_temp_path $work/f;
			uwsgi_temp_path $work/u; scgi_temp_path $work/s;
			upstream origin {
				server 127.0.0.1:$ORIGIN;
				keepalive 128; keepalive_requests 1000000000; keepalive_timeout 600s;
			}
			server {
				listen $NGINX backlog=4096;
				location / { proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection ""; }
			}
		}
	END
	haproxy_config haproxy ":$HAPROXY backlog 4096" 127.0.0.1:$ORIGIN
	start "$1" nginx nginx -c "$work/$1-nginx.conf"
	start "$1" haproxy haproxy -db -f "$work/haproxy.cfg"
	until_ok "nginx on $1" on "$1" curl -sf http://127.0.0.1:$NGINX/
	until_ok "HAProxy on $1" on "$1" curl -sf http://127.0.0.1:$HAPROXY/
}
