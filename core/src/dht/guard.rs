//! Who is answered: martian addresses, and sources that ask too much.
