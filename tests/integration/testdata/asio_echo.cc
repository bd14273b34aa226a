// asio_echo HOST PORT MARKER: Boost.Asio, which registers with epoll before it connects.
#include <boost/asio.hpp>
#include <iostream>

namespace asio = boost::asio;
using asio::ip::tcp;

struct session : std::enable_shared_from_this<session> {
	tcp::socket socket;
	std::string sent, got;

	session(asio::io_context &io, std::string text) : socket(io), sent(std::move(text)) {}

	void start(const tcp::resolver::results_type &to)
	{
		auto self = shared_from_this();
		asio::async_connect(socket, to, [self](auto error, auto) {
			if (error)
				return self->fail("connect", error);
			self->socket.set_option(tcp::no_delay(true));
			asio::async_write(self->socket, asio::buffer(self->sent), [self](auto error, auto) {
				if (error)
					self->fail("write", error);
			});
			self->got.resize(self->sent.size());
			asio::async_read(self->socket, asio::buffer(self->got), [self](auto error, auto) {
				if (error)
					return self->fail("read", error);
				if (self->got != self->sent)
					std::cerr << "wrong\n";
			});
		});
	}

	void fail(const char *what, const boost::system::error_code &error)
	{
		std::cerr << what << ": " << error.message() << "\n";
	}
};

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	asio::io_context io;
	auto to = tcp::resolver(io).resolve(argv[1], argv[2]);
	std::string text;
	for (int i = 0; i < 2000; i++)
		text += std::to_string(i) + " " + argv[3] + "\n";
	for (int i = 0; i < 20; i++)
		std::make_shared<session>(io, text)->start(to);
	io.run();
	std::cout << "intact\n";
}
