/* A program that does nothing, for what it takes to start it. */
int main(void)
{
	return 0;
}
