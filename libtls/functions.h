/*
 * Every function of libtls and ressl. What is exported under these names is in route.c, and
 * decides whether a call is for us; the functions themselves are called by names of ours.
 */
#ifndef TLSWRAP_LIBTLS_FUNCTIONS_H
#define TLSWRAP_LIBTLS_FUNCTIONS_H

#define TLS_FUNCTIONS(X) \
	X(tls_init) X(tls_config_error) X(tls_error) X(tls_config_error_code) X(tls_error_code) \
	X(tls_config_new) X(tls_config_free) X(tls_default_ca_cert_file) \
	X(tls_config_add_keypair_file) X(tls_config_add_keypair_mem) \
	X(tls_config_add_keypair_ocsp_file) X(tls_config_add_keypair_ocsp_mem) \
	X(tls_config_set_alpn) X(tls_config_set_ca_file) X(tls_config_set_ca_path) \
	X(tls_config_set_ca_mem) X(tls_config_set_cert_file) X(tls_config_set_cert_mem) \
	X(tls_config_set_ciphers) X(tls_config_set_crl_file) X(tls_config_set_crl_mem) \
	X(tls_config_set_dheparams) X(tls_config_set_ecdhecurve) X(tls_config_set_ecdhecurves) \
	X(tls_config_set_key_file) X(tls_config_set_key_mem) X(tls_config_set_keypair_file) \
	X(tls_config_set_keypair_mem) X(tls_config_set_keypair_ocsp_file) \
	X(tls_config_set_keypair_ocsp_mem) X(tls_config_set_ocsp_staple_mem) \
	X(tls_config_set_ocsp_staple_file) X(tls_config_set_protocols) \
	X(tls_config_set_session_fd) X(tls_config_set_verify_depth) \
	X(tls_config_prefer_ciphers_client) X(tls_config_prefer_ciphers_server) \
	X(tls_config_insecure_noverifycert) X(tls_config_insecure_noverifyname) \
	X(tls_config_insecure_noverifytime) X(tls_config_verify) \
	X(tls_config_ocsp_require_stapling) X(tls_config_verify_client) \
	X(tls_config_verify_client_optional) X(tls_config_clear_keys) \
	X(tls_config_parse_protocols) X(tls_config_set_session_id) \
	X(tls_config_set_session_lifetime) X(tls_config_add_ticket_key) X(tls_client) \
	X(tls_server) X(tls_configure) X(tls_reset) X(tls_free) X(tls_accept_fds) \
	X(tls_accept_socket) X(tls_accept_cbs) X(tls_connect) X(tls_connect_fds) \
	X(tls_connect_servername) X(tls_connect_socket) X(tls_connect_cbs) X(tls_handshake) \
	X(tls_read) X(tls_write) X(tls_close) X(tls_peer_cert_provided) \
	X(tls_peer_cert_contains_name) X(tls_peer_cert_common_name) X(tls_peer_cert_hash) \
	X(tls_peer_cert_issuer) X(tls_peer_cert_subject) X(tls_peer_cert_notbefore) \
	X(tls_peer_cert_notafter) X(tls_peer_cert_chain_pem) X(tls_conn_alpn_selected) \
	X(tls_conn_cipher) X(tls_conn_cipher_strength) X(tls_conn_servername) \
	X(tls_conn_session_resumed) X(tls_conn_version) X(tls_load_file) X(tls_unload_file) \
	X(tls_ocsp_process_response) X(tls_peer_ocsp_cert_status) X(tls_peer_ocsp_crl_reason) \
	X(tls_peer_ocsp_next_update) X(tls_peer_ocsp_response_status) X(tls_peer_ocsp_result) \
	X(tls_peer_ocsp_revocation_time) X(tls_peer_ocsp_this_update) X(tls_peer_ocsp_url) \
	X(tls_config_skip_private_key_check) X(tls_config_use_fake_private_key)

#define RESSL_FUNCTIONS(X) \
	X(ressl_init) X(ressl_error) X(ressl_config_new) X(ressl_config_free) \
	X(ressl_config_set_ca_file) X(ressl_config_set_ca_path) X(ressl_config_set_cert_file) \
	X(ressl_config_set_cert_mem) X(ressl_config_set_ciphers) X(ressl_config_set_ecdhcurve) \
	X(ressl_config_set_key_file) X(ressl_config_set_key_mem) X(ressl_config_set_protocols) \
	X(ressl_config_set_verify_depth) X(ressl_config_clear_keys) \
	X(ressl_config_insecure_noverifyhost) X(ressl_config_insecure_noverifycert) \
	X(ressl_config_insecure_no_verify) X(ressl_config_verify) X(ressl_client) X(ressl_server) \
	X(ressl_configure) X(ressl_reset) X(ressl_free) X(ressl_accept) X(ressl_accept_socket) \
	X(ressl_connect) X(ressl_connect_socket) X(ressl_listen) X(ressl_read) X(ressl_write) \
	X(ressl_close)

/* Exported by libtls, and in no header of it. */
void tls_config_skip_private_key_check(struct tls_config *config);
void tls_config_use_fake_private_key(struct tls_config *config);

#define X(name) extern __typeof__(name) name __asm__("tlswrap_" #name);
TLS_FUNCTIONS(X)
RESSL_FUNCTIONS(X)
#undef X

#endif
