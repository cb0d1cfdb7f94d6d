"""The benchmark `textbook`: is the crystal that everybody knows the first answer?"""
